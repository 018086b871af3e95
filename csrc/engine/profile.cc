#include "engine/profile.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <set>
#include <string_view>

#include "engine/probe.h"

namespace albert {
namespace {

constexpr std::array<const char*, kSteps> kStepNames = {
    "embeddings",       "q|k|v",           "attention", "attention output",  "add and norm", "ffn",  "ffn output", "quantize",
    "token classifier", "vocabulary head", "pooler",    "pooled classifier", "copies",       "other"};
static_assert(kStepNames.back() != nullptr);

// Profiles that are still to be printed. Leaked: engines may outlive static destructors.
struct Registry {
  std::mutex mutex;
  std::set<Profile*> profiles;
};

Registry& registry() {
  static auto* const all = new Registry;
  return *all;
}

template <typename... Values>
void append(std::string& to, const char* format, Values... values) {
  char line[128];
  std::snprintf(line, sizeof line, format, values...);
  to += line;
}

// A line of the table; operations and the share of the peak only where there are matrix products.
void append_step(std::string& to, const char* name, double seconds, double total, double operations, double seconds_at_peak) {
  append(to, "%-18s%10.4f%7.1f %%", name, seconds, total > 0 ? 100 * seconds / total : 0.0);
  if (operations > 0 && seconds > 0) append(to, "%10.1f%7.1f %%", operations / seconds * 1e-9, 100 * seconds_at_peak / seconds);
  to += '\n';
}

}  // namespace

std::unique_ptr<Profile> Profile::from_environment(const Kernels& kernels, Precision precision) {
  const char* value = std::getenv("ALBERT_PROFILE");
  if (value == nullptr || std::string_view(value) != "1") return nullptr;
  return std::make_unique<Profile>(kernels, precision);
}

Profile::Profile(const Kernels& kernels, Precision precision) : kernels_(kernels), precision_(precision), process_(getpid()) {
  static const int registered = std::atexit(print_all);
  static_cast<void>(registered);
  const std::scoped_lock lock(registry().mutex);
  registry().profiles.insert(this);
}

Profile::~Profile() {
  const std::scoped_lock lock(registry().mutex);
  if (registry().profiles.erase(this) > 0) print();
}

// Python does not destroy every object at exit.
void Profile::print_all() {
  const std::scoped_lock lock(registry().mutex);
  for (Profile* profile : registry().profiles) profile->print();
  registry().profiles.clear();
}

void Profile::add(const std::array<StepTotals, kSteps>& steps, int64_t tokens, int threads) {
  const std::scoped_lock lock(mutex_);
  if (process_ != getpid()) {
    steps_ = {};
    runs_ = tokens_ = 0;
    process_ = getpid();
  }
  for (size_t i = 0; i < steps.size(); ++i) {
    steps_[i].seconds += steps[i].seconds;
    steps_[i].operations += steps[i].operations;
    if (steps[i].operations > 0) steps_[i].precision = steps[i].precision;
  }
  ++runs_;
  tokens_ += tokens;
  threads_ = threads;
}

void Profile::print() noexcept {
  try {
    const std::scoped_lock lock(mutex_);
    if (runs_ == 0 || process_ != getpid()) return;
    const std::string text = table();
    std::fwrite(text.data(), 1, text.size(), stderr);
  } catch (...) {  // no memory or no threads: a profile is not worth an error
  }
}

std::string Profile::table() {
  double peak[kPrecisions] = {};  // operations per second
  StepTotals total;
  double total_at_peak = 0;
  for (const StepTotals& step : steps_) {
    double& of_precision = peak[static_cast<int>(step.precision)];
    if (step.operations > 0 && of_precision == 0) of_precision = 1e9 * measure_peak(kernels_, step.precision, threads_);
  }
  const auto seconds_at_peak = [&](const StepTotals& step) {
    return step.operations > 0 ? step.operations / peak[static_cast<int>(step.precision)] : 0.0;
  };
  for (const StepTotals& step : steps_) {
    total.seconds += step.seconds;
    total.operations += step.operations;
    total_at_peak += seconds_at_peak(step);
  }

  std::string text;
  append(text, "ALBERT_PROFILE: %s on %s, %d threads, %lld runs, %lld tokens\n", name_of(precision_), kernels_.isa, threads_,
         static_cast<long long>(runs_), static_cast<long long>(tokens_));
  append(text, "%-18s%10s%9s%10s%9s\n", "step", "seconds", "share", "GFLOP/s", "of peak");
  for (size_t i = 0; i < steps_.size(); ++i)
    if (const StepTotals& step = steps_[i]; step.seconds > 0)
      append_step(text, kStepNames[i], step.seconds, total.seconds, step.operations, seconds_at_peak(step));
  append_step(text, "total", total.seconds, total.seconds, total.operations, total_at_peak);
  text += "peak GFLOP/s:";
  for (const Precision precision : {Precision::fp32, Precision::bf16, Precision::int8})
    if (const double rate = peak[static_cast<int>(precision)]; rate > 0) append(text, " %s %.1f", name_of(precision), rate * 1e-9);
  return text + '\n';
}

RunProfile::~RunProfile() {
  end_step(Step::other);
  profile_.add(steps_, tokens_, threads_);
}

}  // namespace albert
