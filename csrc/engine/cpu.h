#pragma once

namespace albert {

// The CPUs available to this thread: the smaller of its affinity mask and its cgroup's quota (v1 or v2), which may be fractional.
double usable_cpus();

// The same as a number of threads: rounded up, at least 1.
int whole_cpus(double cpus);

}  // namespace albert
