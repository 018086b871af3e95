// A fast checksum. It detects corruption, not forgery.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/thread_team.h"

namespace albert {

// The checksum of `bytes` bytes, computed by the whole team. `seed` chains it to an earlier checksum.
uint64_t checksum(ThreadTeam& team, const std::byte* data, size_t bytes, uint64_t seed = 0);

}  // namespace albert
