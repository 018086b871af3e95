#include "engine/cpu.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <span>
#include <string_view>

// Called during runs, at most once a second, so nothing here allocates: files are read into buffers on the stack.

namespace albert {
namespace {

int affinity_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  // Fails on a machine with more than 1024 CPUs, which do not fit a cpu_set_t.
  if (sched_getaffinity(0, sizeof set, &set) != 0) return static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  return CPU_COUNT(&set);
}

// The start of a file, as much as fits `buffer`; empty if it cannot be read.
std::string_view read_file(const char* path, std::span<char> buffer) {
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return {};
  size_t size = 0;
  for (ssize_t got = 1; got > 0 && size < buffer.size(); size += static_cast<size_t>(std::max<ssize_t>(got, 0)))
    got = read(file, buffer.data() + size, buffer.size() - size);
  close(file);
  return {buffer.data(), size};
}

// Removes and returns the part of `text` before the next `end`, or all of it; removes the `end` too.
std::string_view take_until(std::string_view& text, char end) {
  const std::string_view taken = text.substr(0, text.find(end));
  text.remove_prefix(std::min(text.size(), taken.size() + 1));
  return taken;
}

// The folder of this process in a cgroup hierarchy, from the lines of /proc/self/cgroup: "number:controllers:/path". `controller`
// is empty for v2 ("0::/path").
std::string_view cgroup_folder(std::string_view lines, std::string_view controller) {
  while (!lines.empty()) {
    std::string_view line = take_until(lines, '\n');
    take_until(line, ':');
    std::string_view names = take_until(line, ':');
    do {
      if (take_until(names, ',') == controller && !line.empty()) return line;
    } while (!names.empty());
  }
  return "/";
}

// The numbers in a file of a cgroup's folder: up to two, 0 where one is missing or "max".
struct Microseconds {
  int64_t first = 0, second = 0;
};

Microseconds read_microseconds(const char* root, std::string_view folder, const char* name) {
  char path[PATH_MAX], buffer[64];
  const int length = std::snprintf(path, sizeof path, "%s%.*s/%s", root, static_cast<int>(folder.size()), folder.data(), name);
  if (length < 0 || static_cast<size_t>(length) >= sizeof path) return {};
  std::string_view line = read_file(path, buffer);
  Microseconds found;
  for (int64_t* number : {&found.first, &found.second}) {
    const std::string_view word = take_until(line, ' ');
    std::from_chars(word.data(), word.data() + word.size(), *number);
  }
  return found;
}

double quota_v2(const char* root, std::string_view folder) {
  const auto [quota, period] = read_microseconds(root, folder, "cpu.max");  // "max 100000" or "150000 100000"
  return quota > 0 && period > 0 ? static_cast<double>(quota) / static_cast<double>(period) : 0;
}

double quota_v1(const char* root, std::string_view folder) {
  const int64_t quota = read_microseconds(root, folder, "cpu.cfs_quota_us").first;  // -1: none
  const int64_t period = read_microseconds(root, folder, "cpu.cfs_period_us").first;
  return quota > 0 && period > 0 ? static_cast<double>(quota) / static_cast<double>(period) : 0;
}

// The smallest quota from the process's folder up to the root, in CPUs; 0 without a quota.
double smallest_quota(const char* root, std::string_view folder, double (*read_quota)(const char*, std::string_view)) {
  double least = 0;
  for (;;) {
    const double quota = read_quota(root, folder);
    if (quota > 0 && (least == 0 || quota < least)) least = quota;
    if (folder.empty() || folder == "/") return least;
    folder = folder.substr(0, folder.find_last_of('/') == std::string_view::npos ? 0 : folder.find_last_of('/'));
  }
}

}  // namespace

double usable_cpus() {
  char buffer[16 * 1024];
  const std::string_view groups = read_file("/proc/self/cgroup", buffer);
  double cpus = affinity_cpus();
  for (const double quota : {smallest_quota("/sys/fs/cgroup", cgroup_folder(groups, ""), quota_v2),
                             smallest_quota("/sys/fs/cgroup/cpu", cgroup_folder(groups, "cpu"), quota_v1)})
    if (quota > 0) cpus = std::min(cpus, quota);
  return cpus;
}

int whole_cpus(double cpus) { return std::max(1, static_cast<int>(std::ceil(cpus))); }

}  // namespace albert
