// The engine's threads. A ThreadTeam is the calling thread and size - 1 workers that run one function together, in steps. The
// ThreadTeamPool holds all teams of the process and is shared by all engines.
//
// Each thread owns a share of a step's tasks, the same part of every step, and steals tasks from the others when its own are done.
// So most of what a thread wrote in one step is in its cache when it reads it in the next.
//
// A step ends when its tasks are done, not when every thread has arrived: a preempted worker delays only its current task, and
// catches up by skipping the steps that the others have finished.
#pragma once

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/memory.h"

namespace albert {

class ThreadTeam {
 public:
  explicit ThreadTeam(int size);  // starts size - 1 workers; throws std::system_error if it cannot
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;
  ~ThreadTeam();

  int size() const { return size_; }

  // Runs work(thread) on the threads of the team, thread in 0..size-1, and returns when all that started have returned; late
  // workers may not start at all. Every thread must call the same steps in the same order. A thread may be steps behind the others,
  // so outside of tasks work may read only what no task writes. work must not throw.
  void run(const std::function<void(int)>& work);

  // Inside work, one step: calls task(i) once for each i in 0..count-1 and returns when all are done. Thread t of n starts at task
  // count * t / n.
  template <typename Task>
  void for_each(int count, Task&& task) {
    if (count <= 0) return;
    if (size_ == 1) {
      for (int i = 0; i < count; ++i) task(i);
      return;
    }
    const uint32_t step = step_++;
    for (int i; (i = claim(step, count)) >= 0;) {
      task(i);
      if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == count) finish_step(step);
    }
    wait_for_step(step);
  }

  // Inside work, one step: task(first, end) for ranges of a few rows that cover 0..count-1.
  template <typename Task>
  void for_ranges(int count, Task&& task) {
    constexpr int kMaxRowsPerTask = 32, kTasksPerThread = 3;
    const int size = std::clamp(count / (kTasksPerThread * size_), 1, kMaxRowsPerTask);
    for_each((count + size - 1) / size, [&](int i) { task(i * size, std::min(count, (i + 1) * size)); });
  }

  // Inside work, one step: the same ranges, with task(row) for each row.
  template <typename Task>
  void for_rows(int count, Task&& task) {
    for_ranges(count, [&](int first, int end) {
      for (int row = first; row < end; ++row) task(row);
    });
  }

  // Before a run: sets whether waiting threads spin before they park, and gives the workers the caller's CPU affinity.
  void prepare(bool spin);

  // Memory for runs, kept between them.
  Workspace workspace;

 private:
  static constexpr uint32_t kOpen = uint32_t{1} << 31;

  // A thread's share of the tasks: the last step in which one was claimed (high half) and how many were, in that step (low half).
  struct alignas(64) Share {
    std::atomic<uint64_t> claimed{0};
  };

  int claim(uint32_t step, int count);  // the next task of a step, or -1 if all are claimed
  int claim_from(int owner, uint32_t step, int count);
  void finish_step(uint32_t step);  // called when its last task is done
  void wait_for_step(uint32_t step) const;
  bool enter();  // a worker joins the run; false if the run is over
  void leave();
  void worker_loop(int thread);
  void stop();

  static thread_local uint32_t step_;  // this thread's next step in its current run
  static thread_local int thread_;     // its number in that run

  const int size_;
  std::unique_ptr<Share[]> shares_;
  std::atomic<int> done_{0};                 // tasks of the current step
  std::atomic<uint32_t> finished_{0};        // steps finished since the team started
  std::atomic<uint32_t> generation_{0};      // runs started
  std::atomic<uint32_t> active_workers_{0};  // workers in the run; kOpen while more may enter
  std::atomic<bool> stopping_{false};
  std::atomic<bool> spin_{false};
  cpu_set_t affinity_;  // last given to the workers
  const std::function<void(int)>* work_ = nullptr;
  uint32_t first_step_ = 0;  // of the current run
  std::vector<std::thread> workers_;
};

class ThreadTeamPool {
 public:
  // The pool of this process. A forked child gets a new one: the parent's workers do not exist in it.
  static ThreadTeamPool& instance();

  static constexpr int kMaxThreads = 1024;

  // Lends a team of `size` threads for the lifetime of the lease. While other teams are out, the caller waits, first come first
  // served, until all their threads together fit the CPUs of the process. Teams idle longest are destroyed. This bounds memory and
  // load, however many threads call. Throws std::invalid_argument beyond kMaxThreads, std::system_error if threads cannot start.
  class Lease {
   public:
    Lease(ThreadTeamPool& pool, int size);
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ThreadTeam& operator*() const { return *team_; }
    ThreadTeam* operator->() const { return team_.get(); }

   private:
    ThreadTeamPool& pool_;
    std::unique_ptr<ThreadTeam> team_;
  };

 private:
  double cpus();

  std::mutex mutex_;
  std::condition_variable returned_;
  uint64_t tickets_ = 0, served_ = 0;  // callers are served in ticket order
  double cpus_ = 0;                    // as of cpus_read_
  std::chrono::steady_clock::time_point cpus_read_;
  std::vector<std::unique_ptr<ThreadTeam>> idle_;
  int lent_threads_ = 0;
};

}  // namespace albert
