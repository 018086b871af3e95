#include "engine/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <system_error>

namespace albert {

MappedFile::MappedFile(const std::string& path) {
  const auto fail = [&](int number) -> std::system_error { return {number, std::generic_category(), path}; };
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw fail(errno);
  struct stat status = {};
  int error = fstat(file, &status) != 0 ? errno : 0;
  if (error == 0 && !S_ISREG(status.st_mode)) error = EINVAL;
  if (error != 0) {
    close(file);
    throw fail(error);
  }
  size_ = static_cast<uint64_t>(status.st_size);
  if (size_ > 0) {
    void* data = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0);
    error = errno;
    close(file);
    if (data == MAP_FAILED) throw fail(error);
    data_ = static_cast<const std::byte*>(data);
  } else {
    close(file);
  }
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
}

const std::byte* MappedFile::bytes(uint64_t offset, uint64_t length) const {
  if (offset > size_ || length > size_ - offset) throw std::invalid_argument("the weight file ends before its tensors do");
  return data_ + offset;
}

void MappedFile::drop_pages() const {
  if (data_ != nullptr) madvise(const_cast<std::byte*>(data_), size_, MADV_DONTNEED);
}

}  // namespace albert
