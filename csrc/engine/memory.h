// Blocks of memory, aligned for any vector and on huge pages where available.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

#include "kernels/gemm.h"

namespace albert {

constexpr size_t kCacheLine = 64;
constexpr size_t whole_cache_lines(size_t bytes) { return (bytes + kCacheLine - 1) / kCacheLine * kCacheLine; }

struct FreeDeleter {
  void operator()(void* p) const { std::free(p); }
};
template <typename T>
using Block = std::unique_ptr<T[], FreeDeleter>;
using FloatBlock = Block<float>;
using WordBlock = Block<uint32_t>;

// Uninitialized. Throws std::bad_alloc.
template <typename T>
Block<T> allocate(size_t count) {
  constexpr size_t kHugePage = size_t{2} << 20;
  const size_t alignment = count * sizeof(T) >= kHugePage ? kHugePage : kCacheLine;
  const size_t bytes = (count * sizeof(T) + alignment - 1) / alignment * alignment;
  void* p = std::aligned_alloc(alignment, bytes == 0 ? alignment : bytes);
  if (p == nullptr) throw std::bad_alloc();
  if (alignment == kHugePage) madvise(p, bytes, MADV_HUGEPAGE);
  return Block<T>(static_cast<T*>(p));
}

inline FloatBlock allocate_floats(size_t count) { return allocate<float>(count); }

// The distance, in floats or words, between rows of `columns`: room for whole panels, and an odd number of cache lines, because
// rows a power of two apart would compete for a few cache sets.
constexpr size_t row_stride(int columns) {
  return (static_cast<size_t>(columns) + kMaxPanelColumns - 1) / kMaxPanelColumns * kMaxPanelColumns + 16;
}

// Cuts a block into consecutive arrays, each starting on a cache line. Without a block it only counts the bytes.
class BumpAllocator {
 public:
  explicit BumpAllocator(std::byte* block = nullptr) : block_(block) {}

  template <typename T>
  T* take(size_t count) {
    T* const array = block_ != nullptr ? reinterpret_cast<T*>(block_ + bytes_) : nullptr;
    bytes_ += whole_cache_lines(count * sizeof(T));
    return array;
  }
  size_t bytes() const { return bytes_; }

 private:
  std::byte* block_;
  size_t bytes_ = 0;
};

// A block that grows as needed and is reused from run to run.
class Workspace {
 public:
  // At least `count` floats, uninitialized.
  float* reserve(size_t count) {
    if (count > size_) {
      block_.reset();
      size_ = 0;
      block_ = allocate_floats(count);
      size_ = count;
    }
    return block_.get();
  }

 private:
  FloatBlock block_;
  size_t size_ = 0;
};

}  // namespace albert
