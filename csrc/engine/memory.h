// Blocks of memory, aligned for any vector and on huge pages where there are any.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

#include "kernels/gemm.h"

namespace albert {

struct FreeDeleter {
  void operator()(void* p) const { std::free(p); }
};
template <typename T>
using Block = std::unique_ptr<T[], FreeDeleter>;
using FloatBlock = Block<float>;
using WordBlock = Block<uint32_t>;

// Uninitialised; std::bad_alloc if there is no memory.
template <typename T>
Block<T> allocate(size_t count) {
  constexpr size_t kHugePage = size_t{2} << 20;
  const size_t alignment = count * sizeof(T) >= kHugePage ? kHugePage : 64;
  const size_t bytes = (count * sizeof(T) + alignment - 1) / alignment * alignment;
  void* p = std::aligned_alloc(alignment, bytes == 0 ? alignment : bytes);
  if (p == nullptr) throw std::bad_alloc();
  if (alignment == kHugePage) madvise(p, bytes, MADV_HUGEPAGE);
  return Block<T>(static_cast<T*>(p));
}

constexpr size_t kCacheLine = 64;
constexpr size_t whole_cache_lines(size_t bytes) { return (bytes + kCacheLine - 1) / kCacheLine * kCacheLine; }

inline FloatBlock allocate_floats(size_t count) { return allocate<float>(count); }

// Floats, or words, between rows of `columns` of them: room for whole panels, and an odd number of cache lines, because rows a
// power of two apart would share a few cache sets.
constexpr size_t row_stride(int columns) {
  return (static_cast<size_t>(columns) + kMaxPanelColumns - 1) / kMaxPanelColumns * kMaxPanelColumns + 16;
}

class Workspace {
 public:
  // At least `count` floats, uninitialised; the same block again unless it must grow.
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
