#include "engine/linear.h"

#include <algorithm>

namespace albert {
namespace {

// kRowsPerChunk: a chunk of rows of A (240 x 768 floats: 0.7 MB) stays in the second-level cache while the panels pass it.
constexpr int kMinRowsPerChunk = 24;
// So many tasks for each thread even out what the threads are given.
constexpr int kTasksPerThread = 3;
// From so many rows a thread on, threads share out the rows rather than the panels, as the other steps do (thread_team.h): the
// weights come from the third-level cache once for each thread, but the activations stay in its second.
constexpr int kMinRowsPerThread = 96;

}  // namespace

OwnedActivations::OwnedActivations(const Kernels& kernels, Precision precision, const float* x, int rows, int inner_dim)
    : operand_(floats(x, static_cast<size_t>(inner_dim))) {
  if (precision == Precision::fp32) return;
  const auto count = static_cast<size_t>(rows);
  const size_t stride = row_stride(words_of(precision, inner_dim));
  words_ = allocate<uint32_t>(count * stride);
  scale_ = allocate<float>(count);
  sum_ = allocate<int32_t>(count);
  kernels.quantize_rows({.precision = precision,
                         .x = x,
                         .x_stride = static_cast<size_t>(inner_dim),
                         .words = words_.get(),
                         .stride = stride,
                         .scale = scale_.get(),
                         .sum = sum_.get(),
                         .rows = rows,
                         .columns = inner_dim});
  operand_ = {words_.get(), stride, scale_.get(), sum_.get()};
}

void linear(ThreadTeam& team, const Kernels& kernels, const PackedMatrix& w, const Activations& a, int rows,
            const LinearOutput& result, bool with_bias, Activation activation, PanelRange panels) {
  const auto gemm_panel = kernels.gemm_panel[static_cast<int>(w.precision())];
  const int together = kernels.max_columns[static_cast<int>(w.precision())] / w.panel_columns();  // panels a task
  const int parts = (panels.end - panels.first + together - 1) / together;
  const int wanted_chunks = (kTasksPerThread * team.size() + parts - 1) / parts;
  int chunks = std::max((rows + kRowsPerChunk - 1) / kRowsPerChunk, std::min(wanted_chunks, rows / kMinRowsPerChunk));
  if (rows >= kMinRowsPerThread * team.size()) chunks = (chunks + team.size() - 1) / team.size() * team.size();
  const int tiles = (rows + chunks * kMaxTileRows - 1) / (chunks * kMaxTileRows);
  const int chunk_rows = tiles * kMaxTileRows;  // whole tiles in all chunks but the last
  const int used_chunks = (rows + chunk_rows - 1) / chunk_rows;
  team.for_each(used_chunks * parts, [&](int task) {
    const int row = task / parts * chunk_rows;
    const int panel = panels.first + task % parts * together;
    const auto at = static_cast<size_t>(row), column = static_cast<size_t>(panel) * static_cast<size_t>(w.panel_columns());
    const bool round = result.out_bf16 != nullptr;
    gemm_panel({.a = a.from(row),
                .panel = w.panel(panel),
                .width = w.width(panel, std::min(panel + together, panels.end)),
                .scale = w.scale(panel),
                .bias = with_bias ? w.bias(panel) : nullptr,
                .c = round ? result.scratch : result.c + at * result.stride + column,
                .c_stride = round ? row_stride(kMaxPanelColumns) : result.stride,
                .out_bf16 = round ? result.out_bf16 + at * result.out_bf16_stride + column : nullptr,
                .out_bf16_stride = result.out_bf16_stride,
                .rows = std::min(chunk_rows, rows - row),
                .inner_words = w.inner_words(),
                .activation = activation,
                .scratch = result.scratch != nullptr ? reinterpret_cast<Word*>(result.scratch + kSumFloats) : nullptr});
  });
}

}  // namespace albert
