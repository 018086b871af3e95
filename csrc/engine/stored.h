// Values as the weight file stores them: little-endian, at any alignment, in one of these types.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace albert {

enum class Stored { float32, float16, bfloat16 };

constexpr size_t size_of(Stored type) { return type == Stored::float32 ? 4 : 2; }

// The type of a name as the manifest has it; std::invalid_argument if there is none.
Stored stored_type(std::string_view name);

// Tensor data in a file.
struct StoredValues {
  const std::byte* first;
  Stored type;

  StoredValues from(size_t index) const { return {first + index * size_of(type), type}; }
  // The first `count` values as floats; exact, whatever the type.
  void read(float* to, size_t count) const;
};

}  // namespace albert
