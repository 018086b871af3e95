#include "engine/thread_team.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <string>

#include "engine/cpu.h"
#include "engine/default_float_env.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace albert {
namespace {

// Waking a parked thread takes tens of microseconds, as long as a small GEMM, so a waiting thread spins this long first.
constexpr auto kSpin = std::chrono::microseconds(50);

void relax_cpu() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Returns when value != old: spins, then parks. With more threads than CPUs it parks at once, or it would keep the others from
// running.
void wait_while(const std::atomic<uint32_t>& value, uint32_t old, bool spin) {
  if (spin) {
    const auto end = std::chrono::steady_clock::now() + kSpin;
    do {
      for (int i = 0; i < 64; ++i) {
        if (value.load(std::memory_order_acquire) != old) return;
        relax_cpu();
      }
    } while (std::chrono::steady_clock::now() < end);
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadTeam::ThreadTeam(int size) : size_(size), shares_(new Share[static_cast<size_t>(size)]) {
  CPU_ZERO(&affinity_);
  try {
    for (int thread = 1; thread < size; ++thread) workers_.emplace_back([this, thread] { worker_loop(thread); });
  } catch (...) {  // too many threads for the system
    stop();
    throw;
  }
}

ThreadTeam::~ThreadTeam() { stop(); }

void ThreadTeam::stop() {
  stopping_ = true;
  generation_.fetch_add(1);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadTeam::prepare(bool spin) {
  spin_.store(spin, std::memory_order_relaxed);
  // The workers take over the caller's affinity: the thread that started them may have been pinned to fewer CPUs.
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (workers_.empty() || sched_getaffinity(0, sizeof mask, &mask) != 0 || CPU_EQUAL(&mask, &affinity_)) return;
  for (std::thread& worker : workers_) pthread_setaffinity_np(worker.native_handle(), sizeof mask, &mask);
  affinity_ = mask;
}

thread_local uint32_t ThreadTeam::step_ = 0;
thread_local int ThreadTeam::thread_ = 0;

int ThreadTeam::claim(uint32_t step, int count) {
  for (int i = 0; i < size_; ++i)
    if (const int task = claim_from((thread_ + i) % size_, step, count); task >= 0) return task;
  return -1;
}

int ThreadTeam::claim_from(int owner, uint32_t step, int count) {
  const auto first_of = [&](int thread) { return static_cast<int>(int64_t{count} * thread / size_); };
  const int first = first_of(owner), size = first_of(owner + 1) - first;
  std::atomic<uint64_t>& share = shares_[static_cast<size_t>(owner)].claimed;
  for (uint64_t seen = share.load(std::memory_order_acquire);;) {
    const bool current = seen >> 32 == step;
    // No task of this share is claimed in this step: either none yet, or the step is over and the share belongs to a later one. If
    // the step ends after this check, its share has changed and the exchange below fails.
    if (!current && finished_.load(std::memory_order_acquire) != step) return -1;
    const int claimed = current ? static_cast<int>(seen & UINT32_MAX) : 0;
    if (claimed >= size) return -1;
    const uint64_t more = uint64_t{step} << 32 | static_cast<uint32_t>(claimed + 1);
    if (share.compare_exchange_weak(seen, more, std::memory_order_acq_rel, std::memory_order_acquire)) return first + claimed;
  }
}

void ThreadTeam::finish_step(uint32_t step) {
  done_.store(0, std::memory_order_relaxed);
  finished_.store(step + 1, std::memory_order_release);
  finished_.notify_all();
}

void ThreadTeam::wait_for_step(uint32_t step) const {
  // Until this step ends, finished_ equals `step`; any other value means that it is over.
  const bool spin = spin_.load(std::memory_order_relaxed);
  if (finished_.load(std::memory_order_acquire) == step) wait_while(finished_, step, spin);
}

bool ThreadTeam::enter() {
  uint32_t active = active_workers_.load(std::memory_order_acquire);
  while ((active & kOpen) != 0)
    if (active_workers_.compare_exchange_weak(active, active + 1, std::memory_order_acq_rel, std::memory_order_acquire))
      return true;
  return false;
}

void ThreadTeam::leave() {
  active_workers_.fetch_sub(1, std::memory_order_release);
  active_workers_.notify_all();
}

void ThreadTeam::worker_loop(int thread) {
  const DefaultFloatEnv float_env;
  for (uint32_t generation = 0;;) {
    wait_while(generation_, generation, spin_.load(std::memory_order_relaxed));
    generation = generation_.load(std::memory_order_acquire);
    if (stopping_) return;
    if (!enter()) continue;
    step_ = first_step_;
    thread_ = thread;
    (*work_)(thread);
    leave();
  }
}

void ThreadTeam::run(const std::function<void(int)>& work) {
  const DefaultFloatEnv float_env;
  if (size_ == 1) return work(0);
  work_ = &work;
  step_ = first_step_ = finished_.load(std::memory_order_relaxed);
  thread_ = 0;
  active_workers_.store(kOpen, std::memory_order_release);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  work(0);
  // Workers that have not entered yet need not: all steps are done.
  uint32_t active = active_workers_.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
  for (; active != 0; active = active_workers_.load(std::memory_order_acquire))
    wait_while(active_workers_, active, spin_.load(std::memory_order_relaxed));
}

ThreadTeamPool& ThreadTeamPool::instance() {
  // Leaked on purpose: workers may outlive static destructors, and a forked child must not touch its parent's pool.
  static std::atomic<ThreadTeamPool*> pool{nullptr};
  static const bool registered = [] {
    pool = new ThreadTeamPool;
    pthread_atfork(nullptr, nullptr, [] { pool = new ThreadTeamPool; });
    return true;
  }();
  static_cast<void>(registered);
  return *pool;
}

double ThreadTeamPool::cpus() {
  constexpr auto kValid = std::chrono::seconds(1);  // reading affinity and quota takes longer than a run of a small model
  const auto now = std::chrono::steady_clock::now();
  if (cpus_ == 0 || now - cpus_read_ > kValid) {
    cpus_ = usable_cpus();
    cpus_read_ = now;
  }
  return cpus_;
}

ThreadTeamPool::Lease::Lease(ThreadTeamPool& pool, int size) : pool_(pool) {
  if (size > kMaxThreads) throw std::invalid_argument("num_threads must be at most " + std::to_string(kMaxThreads));
  std::unique_lock lock(pool_.mutex_);
  const double usable = pool_.cpus();
  const int cpus = whole_cpus(usable);
  const uint64_t ticket = pool_.tickets_++;
  // First come, first served: a steady flow of small teams would starve a large one.
  pool_.returned_.wait(lock,
                       [&] { return ticket == pool_.served_ && (pool_.lent_threads_ == 0 || pool_.lent_threads_ + size <= cpus); });
  ++pool_.served_;
  pool_.returned_.notify_all();  // the next caller's team may fit too
  const auto fits = std::find_if(pool_.idle_.begin(), pool_.idle_.end(), [&](const auto& team) { return team->size() == size; });
  if (fits != pool_.idle_.end()) {
    team_ = std::move(*fits);
    pool_.idle_.erase(fits);
  } else {
    // Destroy the teams that have been idle longest: this bounds the idle threads and their workspaces.
    int idle = 0;
    for (const auto& team : pool_.idle_) idle += team->size();
    while (!pool_.idle_.empty() && idle + size > 2 * cpus) {
      idle -= pool_.idle_.front()->size();
      pool_.idle_.erase(pool_.idle_.begin());
    }
    team_ = std::make_unique<ThreadTeam>(size);
  }
  pool_.idle_.reserve(pool_.idle_.size() + 1);  // so that returning the team cannot throw
  team_->prepare(size <= usable);
  pool_.lent_threads_ += size;
}

ThreadTeamPool::Lease::~Lease() {
  {
    const std::scoped_lock lock(pool_.mutex_);
    pool_.lent_threads_ -= team_->size();
    pool_.idle_.push_back(std::move(team_));
  }
  pool_.returned_.notify_all();
}

}  // namespace albert
