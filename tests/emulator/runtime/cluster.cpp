#include "cluster.h"

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

// The latest visit of each actor to each block.
std::unordered_map<int, Access> visits[kMaxCluster];

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

void visit(unsigned rank, const void* site) {
  const Access now = memory().witness(site).now;
  if (static_cast<int>(rank) >= scheduler().blocks()) {
    fail("bad argument", name_of_access(now) + " reaches into block " + std::to_string(rank) + " of a cluster of " +
                             std::to_string(scheduler().blocks()));
  }
  if (scheduler().has_exited(static_cast<int>(rank))) {
    fail("exited block", name_of_access(now) + " reaches into block " +
                             std::to_string(scheduler().block_at(static_cast<int>(rank))) + ", which has exited");
  }
  if (static_cast<int>(rank) != scheduler().rank()) note_visit(static_cast<int>(rank), now);
}

void note_visit(int rank, const Access& landed) { visits[rank][landed.actor] = landed; }

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
  for (const auto& [actor, last] : visits[rank]) {
    bool known = false;
    for (int member : scheduler().members_of(rank)) {
      known = known || scheduler().clocks().known_to(member)[last.actor].time >= last.clock;
    }
    if (known) continue;
    fail("exited block", "block " + std::to_string(scheduler().block()) + " ends, and nothing makes it wait for " +
                             name_of_access(last) + ", which reaches into it");
  }
}

}  // namespace emulator
