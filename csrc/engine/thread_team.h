// The engine's threads. A ThreadTeam is the caller and size - 1 workers that run one function together, in steps; the
// ThreadTeamPool is the process's one store of them, shared by all engines.
//
// Each thread has a share of a step's tasks, the same part of every step, and helps with the others' when it is through: what it
// wrote in one step it mostly reads in the next, from its own cache.
//
// A step ends when its tasks are done, not when every thread has come: a worker that the system has put aside holds nobody up but
// for the task it is at, and catches up by passing over the steps that the others have done.
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
  explicit ThreadTeam(int size);  // starts size - 1 workers; std::system_error if the system allows no more threads
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;
  ~ThreadTeam();

  int size() const { return size_; }

  // Runs work(thread) on the threads of the team, thread in 0..size-1, and returns when all that began are done. Every thread must
  // come to the same steps in the same order, and may come late: outside of tasks work reads only what no task writes. work must
  // not throw.
  void run(const std::function<void(int)>& work);

  // Inside work, a step: calls task(i) once for each i in 0..count-1 and returns when all are done. Thread t of n begins with those
  // from count * t / n on.
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

  // Inside work: task(first, end) for ranges that make up 0..count-1, a few rows each.
  template <typename Task>
  void for_ranges(int count, Task&& task) {
    constexpr int kMaxRowsPerTask = 32, kTasksPerThread = 3;
    const int size = std::clamp(count / (kTasksPerThread * size_), 1, kMaxRowsPerTask);
    for_each((count + size - 1) / size, [&](int i) { task(i * size, std::min(count, (i + 1) * size)); });
  }

  // Inside work: the same a row at a time.
  template <typename Task>
  void for_rows(int count, Task&& task) {
    for_ranges(count, [&](int first, int end) {
      for (int row = first; row < end; ++row) task(row);
    });
  }

  // Before a run: whether waiting threads spin before they park; the workers move to the CPUs of the caller.
  void prepare(bool spin);

  // Memory that keeps its size from run to run.
  Workspace workspace;

 private:
  static constexpr uint32_t kOpen = uint32_t{1} << 31;

  // A thread's share of the tasks: the step in which one was claimed last, and below it how many in that step.
  struct alignas(64) Share {
    std::atomic<uint64_t> claimed{0};
  };

  int claim(uint32_t step, int count);  // the next task of a step, or -1 if all are claimed
  int claim_from(int owner, uint32_t step, int count);
  void finish_step(uint32_t step);          // its last task is done
  void wait_for_step(uint32_t step) const;  // until it is finished
  bool enter();                             // a worker's way into the run, if it is still going on
  void leave();
  void worker_loop(int thread);
  void stop();

  static thread_local uint32_t step_;  // the next of the run that this thread is in
  static thread_local int thread_;     // which one it is there

  const int size_;
  std::unique_ptr<Share[]> shares_;
  std::atomic<int> done_{0};                 // tasks of the step being worked at
  std::atomic<uint32_t> finished_{0};        // steps
  std::atomic<uint32_t> generation_{0};      // runs begun
  std::atomic<uint32_t> active_workers_{0};  // workers in the run; kOpen while more may come
  std::atomic<bool> stopping_{false};
  std::atomic<bool> spin_{false};
  cpu_set_t affinity_;  // of the workers, as far as known
  const std::function<void(int)>* work_ = nullptr;
  uint32_t first_step_ = 0;  // of the run
  std::vector<std::thread> workers_;
};

class ThreadTeamPool {
 public:
  // The pool of this process: after a fork the child has a fresh one, because the parent's workers are not in it.
  static ThreadTeamPool& instance();

  static constexpr int kMaxThreads = 1024;

  // Lends a team of `size` threads for as long as the lease lives. While teams are out, another is lent only if all their threads
  // together fit the CPUs of the process; else the caller waits in turn. Teams of sizes no longer asked for are dismissed. So
  // memory and load stay bounded however many threads call. std::invalid_argument beyond kMaxThreads, std::system_error if threads
  // cannot start.
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
  uint64_t tickets_ = 0, served_ = 0;  // callers are served in the order of their tickets
  double cpus_ = 0;                    // as of cpus_read_
  std::chrono::steady_clock::time_point cpus_read_;
  std::vector<std::unique_ptr<ThreadTeam>> idle_;
  int lent_threads_ = 0;
};

}  // namespace albert
