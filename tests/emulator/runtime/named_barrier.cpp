#include "named_barrier.h"

#include <string>
#include <vector>

#include "fault.h"
#include "scheduler.h"
#include "statistics.h"

namespace emulator {

namespace {

constexpr unsigned kNumbers = 16;

struct Arrival {
  unsigned number;
  unsigned threads;
  Place place;
  int actor;
  bool released;
};

// Those who wait; all want the same number of threads.
std::vector<Arrival*> waiting[kMaxCluster][kNumbers];

void check(unsigned number, unsigned threads, const Place& place) {
  const auto block = static_cast<unsigned>(scheduler().threads());
  if (number == 0 || number >= kNumbers) {
    fail("bad argument", "barrier " + std::to_string(number) + " in " + place.text() + ": 1 to 15 can be named");
  }
  if (threads == 0 || threads % kWarp != 0 || threads > block) {
    fail("bad argument", std::to_string(threads) + " threads in " + place.text() + ": whole warps of a block of " +
                             std::to_string(block) + " can meet");
  }
}

void finish(std::vector<Arrival*>& all) {
  std::vector<int> actors;
  for (Arrival* each : all) {
    actors.push_back(each->actor);
    each->released = true;
    if (each->actor != scheduler().actor()) scheduler().wake(each->actor);
    if (each->actor % kWarp == 0) statistics().converge(each->actor / kWarp);
  }
  scheduler().clocks().join(actors);
  all.clear();
}

// A warp arrives as a whole.
void arrive(Arguments lanes, std::uint32_t) {
  const auto& first = *static_cast<Arrival*>(lanes[0]);
  std::vector<Arrival*>& all = waiting[scheduler().rank()][first.number];
  for (void* lane : lanes) {
    auto* mine = static_cast<Arrival*>(lane);
    const Arrival& other = all.empty() ? first : *all[0];
    if (mine->number != other.number || mine->threads != other.threads) {
      fail("bad argument", "barrier " + std::to_string(mine->number) + " of " + std::to_string(mine->threads) +
                               " threads in " + mine->place.text() + ", barrier " + std::to_string(other.number) +
                               " of " + std::to_string(other.threads) + " in " + other.place.text());
    }
    all.push_back(mine);
  }
  if (all.size() >= first.threads) finish(all);
}

}  // namespace

void begin_named_barriers() {
  for (auto& block : waiting) {
    for (auto& each : block) each.clear();
  }
}

void barrier_sync(unsigned number, unsigned threads, const char* file, int line) {
  const Place place{"barrier_sync", file, line};
  check(number, threads, place);
  Arrival mine{number, threads, place, scheduler().actor(), false};
  scheduler().meet(place, ~0u, &mine, arrive);
  while (!mine.released) scheduler().wait(place);
}

}  // namespace emulator
