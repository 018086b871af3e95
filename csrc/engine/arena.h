// Where the packed weights of an engine lie, all in one piece: memory of its own, or a cache file that processes share.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "engine/memory.h"
#include "engine/thread_team.h"

namespace albert {

// Hands out the pieces of a block one after the other, each on cache lines of its own. Without a block they are only counted.
class Pieces {
 public:
  explicit Pieces(std::byte* block = nullptr) : block_(block) {}

  template <typename T>
  T* take(size_t count) {
    T* const piece = block_ != nullptr ? reinterpret_cast<T*>(block_ + bytes_) : nullptr;
    bytes_ += whole_cache_lines(count * sizeof(T));
    return piece;
  }
  size_t bytes() const { return bytes_; }

 private:
  std::byte* block_;
  size_t bytes_ = 0;
};

// A file to keep packed weights in. The key stands for all that they depend on.
struct CacheFile {
  std::string path;  // empty: none
  std::array<std::byte, 32> key{};
};

struct Unmap {
  size_t bytes = 0;
  void operator()(std::byte* data) const;
};
using Mapping = std::unique_ptr<std::byte, Unmap>;

// Either find() maps a cache file that is right, read-only; or reserve() gives memory, the caller packs into it, and publish()
// makes it read-only and the cache file. Whatever is wrong with the cache costs its use and is told by problem(); nothing is thrown
// for it. A file is taken if it belongs to this user, nobody else may write to it, and every byte of it is as it was written.
// Whoever can truncate it later could end this process: that is the user himself.
class Arena {
 public:
  // `source` is a checksum of what the engine reads outside of the arena; a file written beside another is not right.
  Arena(CacheFile cache, size_t bytes, uint64_t source) : cache_(std::move(cache)), bytes_(bytes), source_(source) {}
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  bool find(ThreadTeam& team);
  void reserve();                                    // std::bad_alloc
  void publish(ThreadTeam& team);                    // may move the data, when another process has published the same meanwhile
  std::byte* data() const;                           // at a cache line, not to be written to once found or published
  const std::string& file() const { return file_; }  // in which the data lie for others too, or empty
  const std::string& problem() const { return problem_; }  // with the cache file, or empty

 private:
  Mapping open_file(ThreadTeam& team);
  void reserve_file();

  const CacheFile cache_;
  const size_t bytes_;
  const uint64_t source_;
  Mapping mapping_;          // a header, then the data
  Block<std::byte> memory_;  // or the data alone
  std::string temporary_;    // the file being packed into, until it is published
  std::string file_, problem_;
};

}  // namespace albert
