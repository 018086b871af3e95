// Compiled once per ISA: the table of that ISA's kernels.
#include "kernels/format.h"
#include "kernels/kernels.h"
#include "kernels/tile.h"

#define ALBERT_STRING_(x) #x
#define ALBERT_STRING(x) ALBERT_STRING_(x)

namespace albert::ALBERT_ISA {

void gemm_panel_fp32(const GemmPanel&);
void gemm_panel_bf16(const GemmPanel&);
void gemm_panel_int8(const GemmPanel&);
void quantize_rows(const QuantizeRows&);
void layer_norm(const LayerNorm&);
void attention_head(const AttentionHead&);
void activate(Activation, float*, size_t);
double probe(Precision, int64_t);

namespace {

// A call that widens rows takes more columns, because it widens them once for all columns.
template <typename Format>
constexpr int max_columns() {
  return Format::kWide ? kMaxPanelColumns : kPanelColumns;
}

}  // namespace

extern const Kernels kTable;
const Kernels kTable = {
    .isa = ALBERT_STRING(ALBERT_ISA),
    .panel_columns = kPanelColumns,
    .max_columns = {max_columns<Fp32Format>(), max_columns<Bf16Format>(), max_columns<Int8Format>()},
    .gemm_panel = {gemm_panel_fp32, gemm_panel_bf16, gemm_panel_int8},
    .quantize_rows = quantize_rows,
    .layer_norm = layer_norm,
    .attention_head = attention_head,
    .activate = activate,
    .probe = probe,
};

}  // namespace albert::ALBERT_ISA
