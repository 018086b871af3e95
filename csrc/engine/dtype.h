// Values as the weight file stores them: little-endian, unaligned, in one of these types.
#pragma once

#include <cstddef>
#include <cstdint>

namespace albert {

enum class DType { float32, float16, bfloat16, int8 };

constexpr size_t size_of(DType type) {
  switch (type) {
    case DType::float32:
      return 4;
    case DType::float16:
    case DType::bfloat16:
      return 2;
    case DType::int8:
      return 1;
  }
  return 1;
}

// Consecutive values of a tensor in a file.
struct FileValues {
  const std::byte* first;
  DType type;
  size_t count;

  FileValues slice(size_t index, size_t size) const { return {first + index * size_of(type), type, size}; }
  // Converts them to floats, exactly; integers are not scaled.
  void read(float* to) const;
};

// A row-major matrix in a file. An int8 matrix stands for its integers times scales, which are floats in the file: one for each row
// or one for each column.
struct FileMatrix {
  FileValues values;
  size_t columns;
  const std::byte* scale = nullptr;  // int8 only
  bool scale_per_row = false;

  // Reads `count` values of a row, starting at `column`.
  void read(size_t row, size_t column, float* to, size_t count) const;
  // Reads `count` scales, starting at row or column `index`.
  void read_scale(size_t index, float* to, size_t count) const;
};

}  // namespace albert
