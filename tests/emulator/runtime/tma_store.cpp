#include "tma_store.h"

#include <cstring>
#include <deque>
#include <string>
#include <unordered_map>

#include "engines.h"
#include "fault.h"
#include "memory.h"
#include "scheduler.h"
#include "statistics.h"
#include "tensor_map.h"

namespace emulator {

namespace {

struct Store {
  TensorMap map;
  std::int64_t x, y;
  const unsigned char* shared;  // of the block
  std::size_t offset;
  int actor;
  std::uint32_t group;  // numbered from 1
};

// What one thread has started.
struct Stores {
  int engine;
  std::uint32_t committed = 0;  // groups
  std::uint32_t waited = 0;     // groups that have read their shared memory, as the thread knows
  Access last{};
  std::uint32_t last_group = 0;
};

Timing timing;
std::deque<Store> waiting;
std::unordered_map<int, Stores> stores_of;

Stores& own_stores() {
  const int actor = scheduler().actor();
  const auto found = stores_of.find(actor);
  if (found != stores_of.end()) return found->second;
  const std::string name = "a store of " + scheduler().name_of(actor, scheduler().cluster());
  return stores_of.emplace(actor, Stores{scheduler().add_engine(name)}).first->second;
}

void move(const Store& store) {
  for (std::size_t row = 0; row < store.map.box_rows; ++row) {
    const BoxRow within = box_row(store.map, store.x, store.y, row);
    for (std::size_t i = 0; i < within.bytes; ++i) {
      const std::size_t at = store.offset + row * store.map.box_bytes + within.first + i;
      within.global[i] = store.shared[swizzled(at, store.map.swizzle)];
    }
  }
}

}  // namespace

void begin_stores(const Timing& chosen) {
  timing = chosen;
  waiting.clear();
  stores_of.clear();
}

bool stores_wait() { return !waiting.empty(); }

void store_one() {
  move(waiting.front());
  waiting.pop_front();
}

// Only what lies within the tensor counts as read.
void tma_store(const void* map_address, const void* shared, int x, int y) {
  const void* site = __builtin_return_address(0);
  const TensorMap& map = map_at(map_address, site);
  const std::size_t offset = memory().place_in_shared(shared, map.size_of_box(), map.alignment(), false, site);
  Stores& mine = own_stores();
  const std::uint32_t group = mine.committed + 1;
  const int actor = scheduler().actor();
  const Knowledge& known = scheduler().clocks().known_to(actor);
  const Witness reader = memory().engine(mine.engine, group, known, site);
  // Nothing here tells anyone that the bytes have been written.
  const Witness writer = memory().engine(actor, kNever, known, site);
  for (std::size_t row = 0; row < map.box_rows; ++row) {
    const BoxRow within = box_row(map, x, y, row);
    for (std::size_t i = 0; i < within.bytes; ++i) {
      memory().read_operand(swizzled(offset + row * map.box_bytes + within.first + i, map.swizzle), 1, reader);
    }
    if (within.bytes > 0) memory().write_global(within.global, within.bytes, writer);
    statistics().tma_written(within.bytes);
  }
  mine.last = reader.now;
  mine.last_group = group;
  waiting.push_back({map, x, y, memory().shared(scheduler().rank()), offset, actor, group});
  if (!timing.now()) return;
  move(waiting.back());
  waiting.pop_back();
}

void tma_store_commit() { ++own_stores().committed; }

void tma_store_wait_read(int groups_left) {
  Stores& mine = own_stores();
  const auto left = static_cast<std::uint32_t>(groups_left);
  if (mine.committed <= left) return;
  mine.waited = mine.committed - left;
  const int actor = scheduler().actor();
  std::deque<Store> others;
  for (const Store& each : waiting) {
    if (each.actor == actor && each.group <= mine.waited) {
      move(each);
    } else {
      others.push_back(each);
    }
  }
  waiting.swap(others);
  scheduler().clocks().learn(actor, mine.engine, mine.waited);
}

void end_stores_of_thread() {
  const auto found = stores_of.find(scheduler().actor());
  if (found == stores_of.end() || found->second.last_group <= found->second.waited) return;
  fail("async in flight", scheduler().name_of(scheduler().actor(), scheduler().cluster()) + " ends while " +
                              name_of_access(found->second.last) + " may still read shared memory");
}

}  // namespace emulator
