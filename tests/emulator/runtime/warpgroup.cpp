#include "warpgroup.h"

#include <string>
#include <vector>

#include "fault.h"
#include "scheduler.h"
#include "statistics.h"

namespace emulator {

namespace {

struct Meeting {
  Place place{};
  int first = 0;  // a thread that waits
  int arrived = 0;
  void* brought[kWarpgroup] = {};
};

std::vector<Meeting> meetings;

int warpgroups_of_block() { return (scheduler().threads() + kWarpgroup - 1) / kWarpgroup; }

}  // namespace

int warpgroup() { return scheduler().rank() * warpgroups_of_block() + scheduler().thread() / kWarpgroup; }

int thread_of_warpgroup() { return scheduler().thread() % kWarpgroup; }

void begin_warpgroups() {
  meetings.assign(static_cast<std::size_t>(scheduler().blocks() * warpgroups_of_block()), Meeting());
}

void meet_warpgroup(const Place& place, void* brought, void (*act)(Brought)) {
  const int thread = scheduler().thread();
  const int first = thread - thread_of_warpgroup();
  if (first + kWarpgroup > scheduler().threads()) {
    fail("divergence", "thread " + std::to_string(thread) + " is in " + place.text() +
                           ", which needs 128 threads: there are " + std::to_string(scheduler().threads() - first));
  }
  Meeting& mine = meetings[static_cast<std::size_t>(warpgroup())];
  if (mine.arrived == 0) {
    mine.place = place;
    mine.first = thread;
  } else if (!(mine.place == place)) {
    fail("divergence", "threads of a warpgroup are at different places: thread " + std::to_string(thread) + " in " +
                           place.text() + ", thread " + std::to_string(mine.first) + " in " + mine.place.text());
  }
  mine.brought[thread_of_warpgroup()] = brought;
  if (++mine.arrived < kWarpgroup) return scheduler().wait(place);

  mine.arrived = 0;
  act(mine.brought);
  for (int i = 0; i < kWarpgroup; ++i) {
    const int actor = scheduler().actor_of(scheduler().rank(), first + i);
    if (actor != scheduler().actor()) scheduler().wake(actor);
    if (i % kWarp == 0) statistics().converge(actor / kWarp);
  }
}

void change_registers(const char* operation, int registers, const char* file, int line) {
  const Place place{operation, file, line};
  if (registers % 8 != 0 || registers < 24 || registers > 256) {
    fail("bad argument", std::to_string(registers) + " registers in " + place.text() + ": multiples of 8 in 24 to 256");
  }
  meet_warpgroup(place, nullptr, [](Brought) {});
}

}  // namespace emulator
