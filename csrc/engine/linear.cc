#include "engine/linear.h"

#include <algorithm>

namespace albert {
namespace {

// kRowsPerChunk: a chunk of rows of A (240 x 768 floats: 0.7 MB) stays in the second-level cache while the panels pass it.
constexpr int kLeastRowsPerChunk = 24;
// So many tasks for each thread even out what the threads are given.
constexpr int kTasksPerThread = 3;
// From so many rows a thread on, threads share out the rows rather than the panels, as the other steps do (thread_team.h): the
// weights come from the third-level cache once for each thread, but the activations stay in its second.
constexpr int kLeastRowsPerShare = 96;

}  // namespace

OwnedOperand::OwnedOperand(const Kernels& kernels, Precision precision, const float* x, int rows, int depth)
    : operand_(floats(x, static_cast<size_t>(depth))) {
  if (precision == Precision::fp32) return;
  const auto count = static_cast<size_t>(rows);
  const size_t stride = row_stride(words_of(precision, depth));
  words_ = allocate<uint32_t>(count * stride);
  scale_ = allocate<float>(count);
  sum_ = allocate<int32_t>(count);
  kernels.to_operand({.precision = precision,
                      .x = x,
                      .x_stride = static_cast<size_t>(depth),
                      .words = words_.get(),
                      .stride = stride,
                      .scale = scale_.get(),
                      .sum = sum_.get(),
                      .rows = rows,
                      .columns = depth});
  operand_ = {words_.get(), stride, scale_.get(), sum_.get()};
}

void linear(Team& team, const Kernels& kernels, const PackedMatrix& w, const Operand& a, int rows, const Result& result,
            bool with_bias, Activation activation, PanelRange panels) {
  const auto gemm_panel = kernels.gemm_panel[static_cast<int>(w.precision())];
  const int together = kernels.most_columns[static_cast<int>(w.precision())] / w.panel_columns();  // panels a task
  const int parts = (panels.end - panels.first + together - 1) / together;
  const int wanted_chunks = (kTasksPerThread * team.size() + parts - 1) / parts;
  int chunks = std::max((rows + kRowsPerChunk - 1) / kRowsPerChunk, std::min(wanted_chunks, rows / kLeastRowsPerChunk));
  if (rows >= kLeastRowsPerShare * team.size()) chunks = (chunks + team.size() - 1) / team.size() * team.size();
  const int tiles = (rows + chunks * kMostTileRows - 1) / (chunks * kMostTileRows);
  const int chunk_rows = tiles * kMostTileRows;  // whole tiles in all chunks but the last
  const int used_chunks = (rows + chunk_rows - 1) / chunk_rows;
  team.for_each(used_chunks * parts, [&](int task) {
    const int row = task / parts * chunk_rows;
    const int panel = panels.first + task % parts * together;
    const auto at = static_cast<size_t>(row), column = static_cast<size_t>(panel) * static_cast<size_t>(w.panel_columns());
    const bool round = result.rounded != nullptr;
    gemm_panel({.a = a.from(row),
                .panel = w.panel(panel),
                .width = w.width(panel, std::min(panel + together, panels.end)),
                .scale = w.scale(panel),
                .bias = with_bias ? w.bias(panel) : nullptr,
                .c = round ? result.scratch : result.c + at * result.stride + column,
                .c_stride = round ? row_stride(kMostPanelColumns) : result.stride,
                .rounded = round ? result.rounded + at * result.rounded_stride + column : nullptr,
                .rounded_stride = result.rounded_stride,
                .rows = std::min(chunk_rows, rows - row),
                .depth = w.depth_words(),
                .activation = activation,
                .scratch = result.scratch != nullptr ? reinterpret_cast<Word*>(result.scratch + kSumFloats) : nullptr});
  });
}

}  // namespace albert
