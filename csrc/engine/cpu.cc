#include "engine/cpu.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <string>

namespace albert {
namespace {

int affinity_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  // A machine of more than 1024 CPUs needs a larger set than the fixed one.
  if (sched_getaffinity(0, sizeof set, &set) != 0) return static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  return CPU_COUNT(&set);
}

// The folder of this process in a cgroup hierarchy: the path after the second colon of the line of /proc/self/cgroup that names it.
// `controller` is empty for v2 ("0::/path").
std::string cgroup_folder(const std::string& controller) {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    std::stringstream names(line.substr(first + 1, second - first - 1));
    if (controller.empty() && second == first + 1) return line.substr(second + 1);
    for (std::string name; std::getline(names, name, ',');)
      if (!controller.empty() && name == controller) return line.substr(second + 1);
  }
  return "/";
}

// The tightest quota / period from the process's folder up to the root; 0 where there is none.
template <typename ReadQuota>
double tightest(const std::string& root, std::string folder, ReadQuota read_quota) {
  double least = 0;
  for (;;) {
    const double quota = read_quota(root + folder);
    if (quota > 0 && (least == 0 || quota < least)) least = quota;
    if (folder.empty() || folder == "/") return least;
    folder.resize(folder.rfind('/') == std::string::npos ? 0 : folder.rfind('/'));
  }
}

double quota_v2(const std::string& folder) {
  std::ifstream file(folder + "/cpu.max");  // "max 100000" or "150000 100000"
  double quota = 0, period = 0;
  return file >> quota >> period && period > 0 ? quota / period : 0;
}

double quota_v1(const std::string& folder) {
  std::ifstream quota_file(folder + "/cpu.cfs_quota_us"), period_file(folder + "/cpu.cfs_period_us");
  double quota = 0, period = 0;
  return quota_file >> quota && period_file >> period && quota > 0 && period > 0 ? quota / period : 0;
}

}  // namespace

double usable_cpus() {
  double cpus = affinity_cpus();
  for (const double quota :
       {tightest("/sys/fs/cgroup", cgroup_folder(""), quota_v2), tightest("/sys/fs/cgroup/cpu", cgroup_folder("cpu"), quota_v1)})
    if (quota > 0) cpus = std::min(cpus, quota);
  return cpus;
}

int whole_cpus(double cpus) { return std::max(1, static_cast<int>(std::ceil(cpus))); }

}  // namespace albert
