#include "engine/probe.h"

#include <atomic>
#include <chrono>
#include <stdexcept>

#include "engine/thread_team.h"

namespace albert {

double measure_peak(const Kernels& kernels, Precision precision, int threads) {
  using Clock = std::chrono::steady_clock;
  constexpr auto kTime = std::chrono::milliseconds(50);
  constexpr int64_t kSteps = 4096;  // far below a millisecond
  if (threads < 1) throw std::invalid_argument("num_threads must be at least 1");
  const ThreadTeamPool::Lease team(ThreadTeamPool::instance(), threads);
  std::atomic<double> rate{0.0};
  team->run([&](int) {
    double operations = 0;
    const auto begin = Clock::now();
    auto now = begin;
    for (; now - begin < kTime; now = Clock::now()) operations += kernels.probe(precision, kSteps);
    rate += operations / std::chrono::duration<double>(now - begin).count();
  });
  return rate * 1e-9;
}

}  // namespace albert
