// The kernels of one ISA as a table of function pointers, and the choice among them. Kernels know plain sizes and no model.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernels/activation.h"
#include "kernels/attention.h"
#include "kernels/gemm.h"
#include "kernels/layer_norm.h"
#include "kernels/quantize_rows.h"

namespace albert {

struct Kernels {
  const char* isa;
  int panel_columns;                                  // the width of a full weight panel, see gemm.h
  int max_columns[kPrecisions];                       // by Precision: the most columns that one call of gemm_panel takes
  void (*gemm_panel[kPrecisions])(const GemmPanel&);  // by Precision
  void (*quantize_rows)(const QuantizeRows&);
  void (*layer_norm)(const LayerNorm&);
  void (*attention_head)(const AttentionHead&);
  void (*activate)(Activation, float* x, size_t count);
  double (*probe)(Precision, int64_t steps);  // see probe.cc
};

// The ISAs that this build has and this processor runs, the newest first; the last is always "generic".
std::vector<std::string> usable_isas();

// The kernels of one of usable_isas(); std::invalid_argument lists the choices.
const Kernels& kernels_for(std::string_view isa);

// ALBERT_FORCE_ISA if it is set, else the fastest ISA, determined once per process. std::invalid_argument if the variable names
// none of usable_isas().
std::string default_isa();

}  // namespace albert
