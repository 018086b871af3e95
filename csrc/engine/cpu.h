#pragma once

namespace albert {

// The CPUs that this thread may really use: the smaller of its affinity mask and its cgroup's quota (v2 or v1), which may be a
// fraction.
double usable_cpus();

// As a number of threads: rounded up, at least 1.
int whole_cpus(double cpus);

}  // namespace albert
