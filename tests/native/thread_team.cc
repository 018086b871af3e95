// The thread team and its pool on their own, for ThreadSanitizer: `make test-tsan`. What one step writes the next one reads without
// a lock, on other threads, so a step that ended too early is a data race, and a wrong sum.
#include "engine/thread_team.h"

#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

using albert::ThreadTeam;
using albert::ThreadTeamPool;

void check(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "thread_team: %s\n", what);
  std::exit(1);
}

// `steps` steps of `count` tasks: task i of a step adds up its neighbours' values of the step before.
void run_steps(ThreadTeam& team, int count, int steps) {
  const auto size = static_cast<size_t>(count);
  std::vector<std::vector<unsigned>> values(2, std::vector<unsigned>(size, 1));
  team.run([&](int) {
    for (int step = 0; step < steps; ++step) {
      const std::vector<unsigned>& from = values[static_cast<size_t>(step % 2)];
      std::vector<unsigned>& to = values[static_cast<size_t>((step + 1) % 2)];
      team.for_each(count, [&](int i) {
        const auto at = static_cast<size_t>(i);
        to[at] = from[at] + from[(at + 1) % size];
      });
    }
  });
  // All values double in every step.
  for (const unsigned value : values[static_cast<size_t>(steps % 2)]) check(value == 1u << steps, "a step began too early");
}

// Runs of few tasks follow each other faster than workers wake up, so that some come late or to a run that is over.
void follow_each_other(int threads) {
  ThreadTeam team(threads);
  for (int run = 0; run < 300; ++run) {
    team.prepare(run % 2 == 0);
    run_steps(team, 1 + run % 7, 1 + run % 5);
  }
}

// More callers than CPUs borrow teams of several sizes from the pool.
void share_the_pool() {
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller)
    callers.emplace_back([caller] {
      for (int run = 0; run < 60; ++run) {
        const ThreadTeamPool::Lease team(ThreadTeamPool::instance(), 1 + (caller + run) % 3);
        run_steps(*team, 20, 4);
      }
    });
  for (std::thread& caller : callers) caller.join();
}

}  // namespace

int main() {
  for (const int threads : {1, 2, 3, 5}) follow_each_other(threads);
  share_the_pool();
  std::puts("thread_team: ok");
}
