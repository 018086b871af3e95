#include "engine/team.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>

#include "engine/cpu.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace albert {
namespace {

// Waking a parked thread costs tens of microseconds, as much as a small GEMM: a waiting thread spins this long first.
constexpr auto kSpin = std::chrono::microseconds(50);

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Until value != old: spins, then parks. A team wider than the CPUs parks at once: its spinning would hold up the others.
void wait_while(const std::atomic<uint32_t>& value, uint32_t old, bool spin) {
  if (spin) {
    const auto end = std::chrono::steady_clock::now() + kSpin;
    do {
      for (int i = 0; i < 64; ++i) {
        if (value.load(std::memory_order_acquire) != old) return;
        pause();
      }
    } while (std::chrono::steady_clock::now() < end);
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

bool may_spin(int size) {
  static const int cpus = available_cpus();
  return size <= cpus;
}

}  // namespace

Team::Team(int size) : size_(size) {
  try {
    for (int thread = 1; thread < size; ++thread) workers_.emplace_back([this, thread] { serve(thread); });
  } catch (...) {  // the system's limit on threads
    dismiss();
    throw;
  }
}

Team::~Team() { dismiss(); }

void Team::dismiss() {
  stop_ = true;
  turn_.fetch_add(1);
  turn_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void Team::serve(int thread) {
  for (uint32_t turn = 0;; ++turn) {
    wait_while(turn_, turn, may_spin(size_));
    if (stop_) return;
    (*work_)(thread);
    barrier();
  }
}

void Team::run(const std::function<void(int)>& work) {
  if (size_ == 1) return work(0);
  work_ = &work;
  turn_.fetch_add(1, std::memory_order_release);
  turn_.notify_all();
  work(0);
  barrier();
}

void Team::barrier() {
  if (size_ == 1) {
    next_.store(0, std::memory_order_relaxed);
    return;
  }
  const uint32_t phase = phase_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
    arrived_.store(0, std::memory_order_relaxed);
    next_.store(0, std::memory_order_relaxed);
    phase_.fetch_add(1, std::memory_order_release);
    phase_.notify_all();
  } else {
    wait_while(phase_, phase, may_spin(size_));
  }
}

TeamPool& TeamPool::instance() {
  // Leaked on purpose: workers may outlive static destructors, and a forked child must not touch its parent's pool.
  static std::atomic<TeamPool*> pool{nullptr};
  static const bool registered = [] {
    pool = new TeamPool;
    pthread_atfork(nullptr, nullptr, [] { pool = new TeamPool; });
    return true;
  }();
  static_cast<void>(registered);
  return *pool;
}

TeamPool::Lease::Lease(TeamPool& pool, int size) : pool_(pool) {
  std::unique_lock lock(pool_.mutex_);
  const int cpus = available_cpus();
  pool_.returned_.wait(lock, [&] { return pool_.lent_threads_ == 0 || pool_.lent_threads_ + size <= cpus; });
  const auto fits = std::find_if(pool_.idle_.begin(), pool_.idle_.end(), [&](const auto& team) { return team->size() == size; });
  if (fits != pool_.idle_.end()) {
    team_ = std::move(*fits);
    pool_.idle_.erase(fits);
  } else {
    team_ = std::make_unique<Team>(size);
  }
  pool_.lent_threads_ += size;
}

TeamPool::Lease::~Lease() {
  {
    const std::scoped_lock lock(pool_.mutex_);
    pool_.lent_threads_ -= team_->size();
    pool_.idle_.push_back(std::move(team_));
  }
  pool_.returned_.notify_all();
}

}  // namespace albert
