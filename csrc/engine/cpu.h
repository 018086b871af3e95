#pragma once

namespace albert {

// The CPUs that this process may really use: the smaller of its affinity mask and its cgroup's quota (v2 or v1), at least 1.
int available_cpus();

}  // namespace albert
