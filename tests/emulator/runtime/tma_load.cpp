#include "tma_load.h"

#include <cstring>
#include <string>
#include <vector>

#include "barrier.h"
#include "cluster.h"
#include "engines.h"
#include "fault.h"
#include "memory.h"
#include "scheduler.h"
#include "statistics.h"
#include "tensor_map.h"

namespace emulator {

namespace {

struct Load {
  TensorMap map;
  std::int64_t x, y;
  int rank;  // of the block whose memory it goes to
  std::size_t offset;
  Barrier* barrier;
  Access started;
};

Timing timing;
std::vector<Load> waiting;  // in no order: none is promised

void move(const Load& load) {
  unsigned char* shared = memory().shared(load.rank);
  for (std::size_t row = 0; row < load.map.box_rows; ++row) {
    unsigned char line[256] = {};
    const BoxRow within = box_row(load.map, load.x, load.y, row);
    if (within.bytes > 0) std::memcpy(line + within.first, within.global, within.bytes);
    for (std::size_t byte = 0; byte < load.map.box_bytes; byte += 16) {
      const std::size_t at = load.offset + row * load.map.box_bytes + byte;
      std::memcpy(shared + swizzled(at, load.map.swizzle), line + byte, 16);
    }
  }
}

void land(const Load& load) {
  move(load);
  const Access landed = load.barrier->counted();
  memory().land_load(load.rank, load.offset, load.map.size_of_box(), landed);
  note_landing(load.rank, landed, load.started);
  load.barrier->complete(static_cast<unsigned>(load.map.size_of_box()));
}

void start(void* shared, const void* map_address, unsigned long long* barrier, int x, int y, unsigned ranks,
           const void* site) {
  const TensorMap& map = map_at(map_address, site);
  const std::size_t offset = memory().place_in_shared(shared, map.size_of_box(), map.alignment(), true, site);
  for (std::size_t row = 0; row < map.box_rows; ++row) {
    const BoxRow within = box_row(map, x, y, row);
    memory().read_global(within.global, within.bytes, 1, site);
    statistics().tma_read(within.bytes);
  }
  Witness witness = memory().witness(site);
  witness.now.by_engine = true;
  for (int rank = 0; ranks >> rank != 0; ++rank) {
    if ((ranks >> rank & 1) == 0) continue;
    check_block(static_cast<unsigned>(rank), site);
    Barrier& counted = barrier_at(barrier, rank, true, site);
    memory().launch_load(rank, offset, map.size_of_box(), witness);
    waiting.push_back({map, x, y, rank, offset, &counted, witness.now});
    if (!timing.now()) continue;
    const Load load = waiting.back();
    waiting.pop_back();
    land(load);
  }
}

}  // namespace

void begin_loads(const Timing& chosen) {
  timing = chosen;
  waiting.clear();
}

bool loads_wait() { return !waiting.empty(); }

void land_one() {
  const std::size_t chosen = timing.below(static_cast<std::uint32_t>(waiting.size()));
  const Load load = waiting[chosen];
  waiting[chosen] = waiting.back();
  waiting.pop_back();
  land(load);
}

void end_loads_of_block() {
  for (const Load& load : waiting) {
    if (load.rank != scheduler().rank()) continue;
    fail("exited block", "block " + std::to_string(scheduler().block()) + " ends while the copy by " +
                             name_of_access(load.started) + " into it is under way");
  }
}

void tma_load(void* shared, const void* map, unsigned long long* barrier, int x, int y) {
  start(shared, map, barrier, x, y, 1u << scheduler().rank(), __builtin_return_address(0));
}

void tma_load_multicast(void* shared, const void* map, unsigned long long* barrier, int x, int y, unsigned ranks) {
  const void* site = __builtin_return_address(0);
  if (ranks == 0) fail("bad argument", name_of_access(memory().witness(site).now) + " copies to no block");
  start(shared, map, barrier, x, y, ranks, site);
}

}  // namespace emulator
