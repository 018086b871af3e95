#include "engine/packed_matrix.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

namespace albert {

namespace {

constexpr int kStripColumns = kMaxPanelColumns;  // converted together

// Rounds |x| < 2^22 to nearest, ties to even, in two's complement: the last bit of x + kMagic is worth 1.
uint32_t nearest_integer(float x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23
  return std::bit_cast<uint32_t>(x + kMagic) - std::bit_cast<uint32_t>(kMagic);
}

// The same rounding as for activations in kernels/simd.h.
uint32_t to_bf16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t magnitude = bits & 0x7fffffff, rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  if (magnitude > 0x7f800000) return bits >> 16 | 0x40;
  return magnitude < 0x00800000 ? bits >> 16 & 0x8000 : rounded;
}

// A strip of up to kStripColumns columns of a matrix in a file.
struct Strip {
  FileMatrix matrix;
  size_t first_column;
  int inner_dim, count;

  // Row k, or zeros past the end.
  void read(int k, float* to) const {
    if (k < inner_dim)
      matrix.read(static_cast<size_t>(k), first_column, to, static_cast<size_t>(count));
    else
      std::fill_n(to, count, 0.0f);
  }
};

// Converts a strip; a word holds PerWord consecutive rows of a column.
template <int PerWord, typename Convert>
void convert(const Strip& strip, Word* to, int width, Convert convert_value) {
  constexpr int kBits = 32 / PerWord;
  for (int k = 0; k < strip.inner_dim; k += PerWord, to += width) {
    float rows[PerWord][kStripColumns];
    for (int i = 0; i < PerWord; ++i) strip.read(k + i, rows[i]);
    for (int column = 0; column < strip.count; ++column) {
      uint32_t word = 0;
      for (int i = 0; i < PerWord; ++i) word |= convert_value(rows[i][column], column) << (i * kBits);
      to[column] = word;
    }
  }
}

uint32_t to_unsigned(uint32_t integer) { return (integer + 128) & 0xff; }  // see kernels/gemm.h

// Integers and column scales, as stored.
void copy_int8(const Strip& strip, Word* to, int width, float* scale) {
  strip.matrix.read_scale(strip.first_column, scale, static_cast<size_t>(strip.count));
  Strip integers = strip;
  integers.matrix.scale = nullptr;
  convert<4>(integers, to, width, [](float x, int) { return to_unsigned(static_cast<uint32_t>(static_cast<int32_t>(x))); });
}

void to_int8(const Strip& strip, Word* to, int width, float* scale) {
  float greatest[kStripColumns] = {}, factor[kStripColumns], row[kStripColumns];
  for (int k = 0; k < strip.inner_dim; ++k) {
    strip.read(k, row);
    for (int column = 0; column < strip.count; ++column) greatest[column] = std::max(greatest[column], std::abs(row[column]));
  }
  for (int column = 0; column < strip.count; ++column) {
    const bool usable = greatest[column] >= 1e-30f;  // or 127 / greatest could overflow
    factor[column] = usable ? 127.0f / greatest[column] : 0.0f;
    scale[column] = usable ? greatest[column] / 127.0f : 0.0f;
  }
  convert<4>(strip, to, width, [&](float x, int column) { return to_unsigned(nearest_integer(x * factor[column])); });
}

}  // namespace

PackedMatrix::PackedMatrix(int inner_dim, int columns, int panel_columns, Precision precision)
    : precision_(precision), inner_dim_(inner_dim), columns_(columns), panel_columns_(panel_columns) {
  if (precision == Precision::int8 && inner_dim > kMaxInt8InnerDim)
    throw std::invalid_argument("int8 sums of " + std::to_string(inner_dim) + " products could overflow; use fp32 or bf16");
}

size_t PackedMatrix::placed_bytes() const {
  return bytes() + (precision_ == Precision::int8 ? 2 : 1) * padded_columns() * sizeof(float);
}

void PackedMatrix::place(std::byte* memory) {  // widths are multiples of 16: every part is whole cache lines
  data_ = reinterpret_cast<Word*>(memory);
  bias_ = reinterpret_cast<float*>(memory + bytes());
  if (precision_ == Precision::int8) scale_ = bias_ + padded_columns();
}

void PackedMatrix::clear() {
  const size_t last = offset(panels() - 1);
  std::fill_n(data_ + last, bytes() / sizeof(Word) - last, Word{0});  // int8: nothing reads what is past the columns
  std::fill_n(bias_, padded_columns(), 0.0f);
  if (scale_ != nullptr) std::fill_n(scale_, padded_columns(), 0.0f);
}

int PackedMatrix::width(int panel) const { return std::min(panel_columns_, (columns_ - panel * panel_columns_ + 15) / 16 * 16); }

size_t PackedMatrix::offset(int panel) const {  // all earlier panels are full
  return static_cast<size_t>(panel) * static_cast<size_t>(panel_columns_) * static_cast<size_t>(inner_words());
}

size_t PackedMatrix::bytes() const {
  return (offset(panels() - 1) + static_cast<size_t>(inner_words()) * static_cast<size_t>(width(panels() - 1))) * sizeof(Word);
}

void PackedMatrix::pack(ThreadTeam& team, const FileMatrix& w, int first_column) {
  const int end = first_column + static_cast<int>(w.columns), first_panel = first_column / panel_columns_;
  const auto pack_panel = [&](int panel) {
    const int column = std::max(first_column, panel * panel_columns_), inside = column % panel_columns_;
    const Strip strip{.matrix = w,
                      .first_column = static_cast<size_t>(column - first_column),
                      .inner_dim = inner_dim_,
                      .count = std::min(width(panel) - inside, end - column)};
    Word* to = data_ + offset(panel) + inside;
    switch (precision_) {
      case Precision::fp32:
        return convert<1>(strip, to, width(panel), [](float x, int) { return std::bit_cast<uint32_t>(x); });
      case Precision::bf16:
        return convert<2>(strip, to, width(panel), [](float x, int) { return to_bf16(x); });
      case Precision::int8:
        return (w.scale != nullptr ? copy_int8 : to_int8)(strip, to, width(panel), scale_ + column);
    }
  };
  team.run([&](int) { team.for_each((end - 1) / panel_columns_ + 1 - first_panel, [&](int i) { pack_panel(first_panel + i); }); });
}

void PackedMatrix::pack_transposed(const FileMatrix& w) {
  std::vector<float> column(static_cast<size_t>(inner_dim_));
  for (int c = 0; c < columns_; ++c) {
    const int panel = c / panel_columns_, panel_width = width(panel);
    w.read(static_cast<size_t>(c), 0, column.data(), column.size());
    Word* to = data_ + offset(panel) + c % panel_columns_;
    for (size_t k = 0; k < column.size(); ++k) to[k * static_cast<size_t>(panel_width)] = std::bit_cast<Word>(column[k]);
  }
}

}  // namespace albert
