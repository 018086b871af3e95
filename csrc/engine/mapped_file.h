// A file mapped for reading.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace albert {

class MappedFile {
 public:
  explicit MappedFile(const std::string& path);  // std::system_error
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  // The `length` bytes at `offset`; std::invalid_argument if the file does not have them. They need no alignment: read them by
  // memcpy.
  const std::byte* bytes(uint64_t offset, uint64_t length) const;

  // Lets go of the pages read so far; they are read again when touched.
  void drop_pages() const;

 private:
  const std::byte* data_ = nullptr;
  uint64_t size_ = 0;
};

}  // namespace albert
