// One block for all packed weights of an engine: private memory, or a cache file that processes share.
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

// A file that caches packed weights. The key identifies everything that they depend on.
struct CacheFile {
  std::string path;  // empty: none
  std::array<std::byte, 32> key{};
};

struct Unmap {
  size_t bytes = 0;
  void operator()(std::byte* data) const;
};
using Mapping = std::unique_ptr<std::byte, Unmap>;

// Either find() maps a valid cache file, read-only; or reserve() provides memory, the caller packs into it, and publish() makes it
// read-only and turns it into the cache file. Trouble with the cache never throws: the engine does without it, and problem() says
// why. A file is valid if it belongs to this user, nobody else may write to it, and header and checksum match. Truncating a mapped
// file would crash this process, but only the same user can do that.
class Arena {
 public:
  // `source` is the checksum of what the engine reads outside the arena; a file written with another one is not valid.
  Arena(CacheFile cache, size_t bytes, uint64_t source) : cache_(std::move(cache)), bytes_(bytes), source_(source) {}
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  bool find(ThreadTeam& team);
  void reserve();                                          // std::bad_alloc
  void publish(ThreadTeam& team);                          // may move the data: another process may have published first
  std::byte* data() const;                                 // cache-line aligned; read-only once found or published
  const std::string& file() const { return file_; }        // that holds the data, or empty
  const std::string& problem() const { return problem_; }  // with the cache file, or empty

 private:
  Mapping open_file(ThreadTeam& team);
  void reserve_file();

  const CacheFile cache_;
  const size_t bytes_;
  const uint64_t source_;
  Mapping mapping_;          // a header, then the data
  Block<std::byte> memory_;  // or only the data
  std::string temporary_;    // the file being written, until it is published
  std::string file_, problem_;
};

}  // namespace albert
