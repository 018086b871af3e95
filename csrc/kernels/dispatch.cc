#include <chrono>
#include <cstdlib>
#include <stdexcept>

#include "kernels/kernels.h"

namespace albert {

#define ALBERT_DECLARE_ISA(isa) \
  namespace isa {               \
  extern const Kernels kTable;  \
  }
ALBERT_DECLARE_ISA(generic)
#if defined(__x86_64__)
ALBERT_DECLARE_ISA(avx2)
ALBERT_DECLARE_ISA(avx512)
ALBERT_DECLARE_ISA(avx512_vnni)
ALBERT_DECLARE_ISA(avx512_bf16)
#endif
#undef ALBERT_DECLARE_ISA

namespace {

#if defined(__x86_64__)
double seconds_per_operation(Precision precision) {
  using Clock = std::chrono::steady_clock;
  constexpr int kSteps = 2000;  // about 20 microseconds
  const auto begin = Clock::now();
  const double operations = avx512_bf16::kTable.probe(precision, kSteps);
  return std::chrono::duration<double>(Clock::now() - begin).count() / operations;
}

// Per multiply-add, the bfloat16 instruction is twice as fast as fma on Zen 4 but half as fast on Granite Rapids, where bf16 runs
// faster without it. Decided by the majority of alternating tries, because other processes slow some of them down.
bool bf16_instruction_pays() {
  constexpr int kTries = 15;
  int won = 0;
  for (int i = 0; i < kTries; ++i) won += seconds_per_operation(Precision::bf16) < seconds_per_operation(Precision::fp32) ? 1 : 0;
  return won > kTries / 2;
}
#endif

std::vector<const Kernels*> usable() {
  std::vector<const Kernels*> tables;
#if defined(__x86_64__)
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool has_vnni = has_avx512 && __builtin_cpu_supports("avx512vnni");
  const bool has_bf16 = has_vnni && __builtin_cpu_supports("avx512bf16");  // every processor with AVX512-BF16 has VNNI
  if (has_bf16) tables.push_back(&avx512_bf16::kTable);
  if (has_vnni) tables.push_back(&avx512_vnni::kTable);
  if (has_avx512) tables.push_back(&avx512::kTable);
  if (has_avx2) tables.push_back(&avx2::kTable);
#endif
  tables.push_back(&generic::kTable);
  return tables;
}

const Kernels& find_fastest() {
  const std::vector<const Kernels*> tables = usable();
#if defined(__x86_64__)
  if (tables.front() == &avx512_bf16::kTable && !bf16_instruction_pays()) return avx512_vnni::kTable;
#endif
  return *tables.front();
}

}  // namespace

std::vector<std::string> usable_isas() {
  std::vector<std::string> names;
  for (const Kernels* table : usable()) names.emplace_back(table->isa);
  return names;
}

const Kernels& kernels_for(std::string_view isa) {
  std::string choices;
  for (const Kernels* table : usable()) {
    if (isa == table->isa) return *table;
    choices += (choices.empty() ? "" : ", ") + std::string(table->isa);
  }
  throw std::invalid_argument("no kernels for ISA '" + std::string(isa) + "' on this machine; choose one of " + choices);
}

std::string default_isa() {
  const char* forced = std::getenv("ALBERT_FORCE_ISA");
  if (forced == nullptr || *forced == '\0') {
    static const Kernels& fastest = find_fastest();
    return fastest.isa;
  }
  try {
    return kernels_for(forced).isa;
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(std::string("ALBERT_FORCE_ISA: ") + error.what());
  }
}

}  // namespace albert
