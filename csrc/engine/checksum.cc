#include "engine/checksum.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

namespace albert {
namespace {

constexpr size_t kBlock = size_t{1} << 20;  // one task

// A bijection in each argument, so a single changed word always changes the result.
uint64_t step(uint64_t sum, uint64_t word) {
  return std::rotl(sum + word * 0xc2b2ae3d27d4eb4fu, 31) * 0x9e3779b185ebca87u;  // xxHash64's odd constants
}

using Lanes = std::array<uint64_t, 4>;  // independent chains hide the latency of the multiplications

void add(Lanes& lanes, const std::byte* from) {
  Lanes words;
  std::memcpy(words.data(), from, sizeof words);
  for (size_t i = 0; i < lanes.size(); ++i) lanes[i] = step(lanes[i], words[i]);
}

uint64_t block_sum(const std::byte* data, size_t bytes) {
  Lanes lanes{1, 2, 3, 4};
  const size_t whole = bytes / sizeof(Lanes) * sizeof(Lanes);
  for (size_t at = 0; at < whole; at += sizeof(Lanes)) add(lanes, data + at);
  std::array<std::byte, sizeof(Lanes)> rest{};
  std::copy_n(data + whole, bytes - whole, rest.data());
  add(lanes, rest.data());
  uint64_t sum = bytes;
  for (const uint64_t lane : lanes) sum = step(sum, lane);
  return sum;
}

}  // namespace

uint64_t checksum(ThreadTeam& team, const std::byte* data, size_t bytes, uint64_t seed) {
  const size_t count = (bytes + kBlock - 1) / kBlock;
  std::vector<uint64_t> sums(count);
  const auto sum_block = [&](int i) {
    const size_t first = static_cast<size_t>(i) * kBlock;
    sums[static_cast<size_t>(i)] = block_sum(data + first, std::min(kBlock, bytes - first));
  };
  team.run([&](int) { team.for_each(static_cast<int>(count), sum_block); });
  for (const uint64_t sum : sums) seed = step(seed, sum);
  return step(seed, bytes);
}

}  // namespace albert
