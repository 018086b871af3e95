// A file mapped read-only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace albert {

class MappedFile {
 public:
  explicit MappedFile(const std::string& path);  // throws std::system_error
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  // The `length` bytes at `offset`, unaligned: read them by memcpy. Throws std::invalid_argument if the file is too short.
  const std::byte* bytes(uint64_t offset, uint64_t length) const;

  // Drops the pages read so far from this process's resident memory; the next access maps them again.
  void drop_pages() const;

 private:
  const std::byte* data_ = nullptr;
  uint64_t size_ = 0;
};

}  // namespace albert
