#include "engine/linear.h"

#include <algorithm>

namespace albert {
namespace {

// A chunk of rows of A (240 x 768 floats: 0.7 MB) stays in the second-level cache while the panels pass it.
constexpr int kRowsPerChunk = 240;
constexpr int kLeastRowsPerChunk = 24;
// So many tasks for each thread even out what the threads are given.
constexpr int kTasksPerThread = 3;

}  // namespace

void linear(Team& team, const Kernels& kernels, const PackedMatrix& w, const float* a, size_t a_stride, int rows, float* c,
            size_t c_stride, bool with_bias, Activation activation, PanelRange panels) {
  const int panel_count = panels.end - panels.first;
  const int wanted_chunks = (kTasksPerThread * team.size() + panel_count - 1) / panel_count;
  const int chunks = std::max((rows + kRowsPerChunk - 1) / kRowsPerChunk, std::min(wanted_chunks, rows / kLeastRowsPerChunk));
  const int tiles = (rows + chunks * kMostTileRows - 1) / (chunks * kMostTileRows);
  const int chunk_rows = tiles * kMostTileRows;  // whole tiles in all chunks but the last
  const int used_chunks = (rows + chunk_rows - 1) / chunk_rows;
  team.for_each(used_chunks * panel_count, [&](int task) {
    const int row = task / panel_count * chunk_rows;
    const int panel = panels.first + task % panel_count;
    kernels.gemm_panel(
        {.a = a + static_cast<size_t>(row) * a_stride,
         .a_stride = a_stride,
         .panel = w.panel(panel),
         .width = w.width(panel),
         .bias = with_bias ? w.bias(panel) : nullptr,
         .c = c + static_cast<size_t>(row) * c_stride + static_cast<size_t>(panel) * static_cast<size_t>(w.panel_columns()),
         .c_stride = c_stride,
         .rows = std::min(chunk_rows, rows - row),
         .depth = w.depth(),
         .activation = activation});
  });
}

}  // namespace albert
