// A fast sum that tells whether bytes are still the same. It finds damage, not forgery.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/thread_team.h"

namespace albert {

// Of `bytes` bytes, shared out among the team; `seed` is a sum to go on from.
uint64_t checksum(ThreadTeam& team, const std::byte* data, size_t bytes, uint64_t seed = 0);

}  // namespace albert
