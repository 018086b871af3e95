#include "engine/arena.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include "engine/checksum.h"

namespace albert {
namespace {

constexpr size_t kHeaderBytes = 4096;  // the data start on a page of their own

// The first page of the file. It is a function of what is expected and of the data, so comparing it validates the file.
struct Header {
  std::array<char, 8> magic{'A', 'L', 'B', 'P', 'A', 'C', 'K', '\0'};  // packed_cache.py recognizes its files by it
  uint64_t format = 1;
  std::array<std::byte, 32> key;
  uint64_t bytes, source, sum;  // of the data; `source` as in Arena
  std::array<std::byte, kHeaderBytes - 72> zeros{};
};
static_assert(sizeof(Header) == kHeaderBytes);

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int operator*() const { return number_; }

 private:
  const int number_;
};

std::string message(int error) { return std::generic_category().message(error); }

Mapping map(const Descriptor& file, size_t bytes, int protection) {
  void* data = mmap(nullptr, bytes, protection, MAP_SHARED, *file, 0);
  return Mapping(data == MAP_FAILED ? nullptr : static_cast<std::byte*>(data), Unmap{bytes});
}

}  // namespace

void Unmap::operator()(std::byte* data) const { munmap(data, bytes); }

Arena::~Arena() {
  if (!temporary_.empty()) unlink(temporary_.c_str());  // packing failed
}

std::byte* Arena::data() const { return mapping_ != nullptr ? mapping_.get() + kHeaderBytes : memory_.get(); }

bool Arena::find(ThreadTeam& team) {
  if (cache_.path.empty()) return false;
  mapping_ = open_file(team);
  if (mapping_ != nullptr) file_ = cache_.path;
  return mapping_ != nullptr;
}

Mapping Arena::open_file(ThreadTeam& team) {
  const auto refuse = [this](std::string why) {
    problem_ = std::move(why);
    return Mapping();
  };
  // O_NONBLOCK: opening a pipe would wait for its writer.
  const Descriptor file(open(cache_.path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (*file < 0) return errno == ENOENT ? Mapping() : refuse(message(errno));
  struct stat status = {};
  if (fstat(*file, &status) != 0) return refuse(message(errno));
  if (!S_ISREG(status.st_mode)) return refuse("is no file");
  if (status.st_uid != geteuid()) return refuse("belongs to another user");
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) return refuse("others may write to it");
  const size_t size = kHeaderBytes + bytes_;
  if (static_cast<uint64_t>(status.st_size) != size) return refuse("has another size than its weights");
  Mapping found = map(file, size, PROT_READ);
  if (found == nullptr) return refuse(message(errno));
  const Header expected{
      .key = cache_.key, .bytes = bytes_, .source = source_, .sum = checksum(team, found.get() + kHeaderBytes, bytes_)};
  if (std::memcmp(found.get(), &expected, sizeof expected) != 0) return refuse("is damaged");
  return found;
}

void Arena::reserve() {
  if (!cache_.path.empty()) reserve_file();
  if (mapping_ == nullptr) memory_ = allocate<std::byte>(bytes_);
}

void Arena::reserve_file() {
  const auto fail = [this](int error) {
    problem_ = message(error);
    if (!temporary_.empty()) unlink(temporary_.c_str());
    temporary_.clear();
  };
  std::string name = cache_.path + ".XXXXXX";
  const Descriptor file(mkostemp(name.data(), O_CLOEXEC));  // mode 0600
  if (*file < 0) return fail(errno);
  temporary_ = name;
  const size_t size = kHeaderBytes + bytes_;
  // Allocate all blocks now: on a full disk, writing to the mapping would raise SIGBUS.
  if (const int error = posix_fallocate(*file, 0, static_cast<off_t>(size)); error != 0) return fail(error);
  mapping_ = map(file, size, PROT_READ | PROT_WRITE);
  if (mapping_ == nullptr) return fail(errno);
  const Header unfinished{.key = {}, .bytes = 0, .source = 0, .sum = 0};
  std::memcpy(mapping_.get(), &unfinished, sizeof unfinished);
}

void Arena::publish(ThreadTeam& team) {
  if (mapping_ == nullptr) return;
  const Header header{.key = cache_.key, .bytes = bytes_, .source = source_, .sum = checksum(team, data(), bytes_)};
  std::memcpy(mapping_.get(), &header, sizeof header);
  mprotect(mapping_.get(), kHeaderBytes + bytes_, PROT_READ);
  const char *from = temporary_.c_str(), *to = cache_.path.c_str();
  bool published = link(from, to) == 0;  // unlike rename, fails if the file exists
  if (!published && errno == EEXIST) {
    // Processes that start together all pack. They share the memory of the first to finish.
    if (Mapping winner = open_file(team); winner != nullptr) {
      mapping_ = std::move(winner);
      published = true;
    }
  }
  if (!published && rename(from, to) == 0) {  // replaces an invalid file; or the file system has no hard links
    published = true;
    temporary_.clear();
  }
  if (published)
    file_ = cache_.path;
  else
    problem_ = message(errno);  // this process can still use its mapping
  if (!temporary_.empty()) unlink(temporary_.c_str());
  temporary_.clear();
}

}  // namespace albert
