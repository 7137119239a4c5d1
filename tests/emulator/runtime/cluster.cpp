#include "cluster.h"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <vector>

#include "fault.h"
#include "memory.h"
#include "scheduler.h"
#include "statistics.h"

namespace emulator {

namespace {
std::vector<int> arrived;  // at the barrier of the cluster
int present = 0;           // threads that have not exited

struct Visit {
  Access counted;
  Access whose;
  bool is_arrival;
};

// To each block: the last arrival of each thread, the last landing that each barrier counted.
std::unordered_map<int, Visit> visits[kMaxCluster];

bool knows(int thread, const Access& access) {
  return scheduler().clocks().known_to(thread)[access.actor].time >= access.clock;
}

void finish_barrier() {
  if (arrived.empty() || static_cast<int>(arrived.size()) < present) return;
  scheduler().clocks().join(arrived);
  for (int actor : arrived) {
    if (actor != scheduler().actor()) scheduler().wake(actor);
    if (actor % kWarp == 0) statistics().converge(actor / kWarp);
  }
  arrived.clear();
}
}  // namespace

unsigned cluster_rank() { return static_cast<unsigned>(scheduler().rank()); }

void cluster_sync(const char* file, int line) {
  const Place place{"cluster_sync", file, line};
  scheduler().meet(place, ~0u, nullptr, [](Arguments, std::uint32_t) {});
  arrived.push_back(scheduler().actor());
  if (static_cast<int>(arrived.size()) < present) return scheduler().wait(place);
  finish_barrier();
}

void check_block(unsigned rank, const void* site) {
  const Access now = memory().witness(site).now;
  if (static_cast<int>(rank) >= scheduler().blocks()) {
    fail("bad argument", name_of_access(now) + " reaches into block " + std::to_string(rank) + " of a cluster of " +
                             std::to_string(scheduler().blocks()));
  }
  if (scheduler().has_exited(static_cast<int>(rank))) {
    fail("exited block", name_of_access(now) + " reaches into block " +
                             std::to_string(scheduler().block_at(static_cast<int>(rank))) + ", which has exited");
  }
}

void note_arrival(int rank, const Access& counted, const Access& whose) {
  visits[rank][whose.actor] = {counted, whose, true};
}

void note_landing(int rank, const Access& counted, const Access& whose) {
  visits[rank][counted.actor] = {counted, whose, false};
}

void begin_cluster() {
  arrived.clear();
  present = scheduler().blocks() * scheduler().threads();
  for (auto& each : visits) each.clear();
}

void end_cluster_of_thread() {
  --present;
  finish_barrier();
}

void end_visits_of_block() {
  const int rank = scheduler().rank();
  const std::vector<int> members = scheduler().members_of(rank);
  for (const auto& [actor, last] : visits[rank]) {
    const Visit& visit = last;
    const auto knows_it = [&](int member) {
      return knows(member, visit.counted) || (visit.is_arrival && knows(member, visit.whose));
    };
    if (std::any_of(members.begin(), members.end(), knows_it)) continue;
    fail("exited block", "block " + std::to_string(scheduler().block()) + " ends, and nothing makes it wait for " +
                             name_of_access(visit.whose) + ", which reaches into it");
  }
}

}  // namespace emulator
