#include "wgmma.h"

#include <algorithm>
#include <deque>
#include <list>
#include <string>
#include <vector>

#include "engines.h"
#include "fault.h"
#include "lent_registers.h"
#include "memory.h"
#include "metadata.h"
#include "scheduler.h"
#include "statistics.h"
#include "warpgroup.h"
#include "wgmma_operands.h"
#include "wgmma_sums.h"

namespace emulator {

namespace {

constexpr int kWarps = kWarpgroup / kWarp;

struct Product {
  Operands operands;
  Sums* sums;
  bool add;
  std::uint32_t group;
};

struct Warpgroup {
  int engine = -1;
  std::uint32_t committed[kWarps] = {};  // groups, by each warp
  std::uint32_t waited[kWarps] = {};     // groups that each warp knows to be complete
  bool fenced[kWarps] = {};              // since its last wait
  std::uint32_t last_group = 0;          // that has a product, numbered from 1
  Access last{};
  std::list<Sums> sums;
  std::list<LentRegisters> lent;
  std::deque<Product> waiting;  // in order
};

Timing timing;
std::vector<Warpgroup> warpgroups;

Warpgroup& own() { return warpgroups[static_cast<std::size_t>(warpgroup())]; }
int own_warp() { return thread_of_warpgroup() / kWarp; }

void compute(const Product& product) {
  std::vector<std::uint32_t>& words = product.sums->words();
  if (!product.add) std::fill(words.begin(), words.end(), 0);
  product.operands.add_to(words.data());
}

void compute_until(Warpgroup& mine, std::uint32_t group) {
  while (!mine.waiting.empty() && mine.waiting.front().group <= group) {
    compute(mine.waiting.front());
    mine.waiting.pop_front();
  }
}

// ---- Starting one ----

// What one thread brings.
struct Start {
  const char* name;
  Kind kind;
  int columns;
  std::uint32_t* sums;
  std::uint64_t b;
  bool add;
  const void* site;
  std::uint64_t a = 0;
  bool sparse = false;
  std::uint32_t metadata = 0;
  const unsigned* registers = nullptr;  // in place of a
};

[[noreturn]] void refuse(const char* kind, const Start& start, const std::string& why) {
  fail(kind, name_of_access(memory().witness(start.site).now) + " " + why);
}

// A register is in the sums of one shape only while they are under way.
Sums& sums_of(Warpgroup& mine, const Operands& operands, Brought threads) {
  const Start& first = *static_cast<Start*>(threads[0]);
  for (Sums& each : mine.sums) {
    if (each.are(operands, first.sums)) return each;
    if (each.overlap(first.columns, first.sums)) {
      refuse("async in flight", first, "adds to registers that are in another wgmma's sums");
    }
  }
  std::uint32_t* places[kWarpgroup];
  for (int thread = 0; thread < kWarpgroup; ++thread) places[thread] = static_cast<Start*>(threads[thread])->sums;
  return mine.sums.emplace_back(operands, places);
}

void check(const Warpgroup& mine, Brought threads) {
  const Start& first = *static_cast<Start*>(threads[0]);
  for (int thread = 1; thread < kWarpgroup; ++thread) {
    const Start& other = *static_cast<Start*>(threads[thread]);
    if (other.a == first.a && other.b == first.b && other.add == first.add) continue;
    refuse("bad argument", first,
           "and thread " + std::to_string(thread) + " of its warpgroup bring different operands");
  }
  for (int warp = 0; warp < kWarps; ++warp) {
    if (!mine.fenced[warp]) {
      refuse("missing fence", first, "starts a wgmma without a wgmma_fence since warp " + std::to_string(warp) +
                                         " of its warpgroup began or last waited");
    }
    if (mine.committed[warp] != mine.committed[0] || mine.waited[warp] != mine.waited[0]) {
      refuse("divergence", first, "starts a wgmma while the warps of its warpgroup have committed or waited for "
                                  "different groups");
    }
  }
}

Operands operands_of(Brought threads) {
  const Start& first = *static_cast<Start*>(threads[0]);
  Operands operands{first.kind, first.columns, first.sparse, first.registers != nullptr, Descriptor(first.a),
                    Descriptor(first.b), {}, {}};
  for (int thread = 0; thread < kWarpgroup; ++thread) {
    const Start& each = *static_cast<Start*>(threads[thread]);
    operands.registers[thread] = each.registers;
    operands.metadata[thread] = each.metadata;
  }
  const std::string reason = operands.refusal();
  if (!reason.empty()) refuse("bad argument", first, "has a descriptor with " + reason);
  return operands;
}

void start_all(Brought threads) {
  Warpgroup& mine = own();
  const Start& first = *static_cast<Start*>(threads[0]);
  check(mine, threads);
  const Operands operands = operands_of(threads);
  if (mine.engine < 0) {
    mine.engine = scheduler().add_engine("wgmma of warpgroup " + std::to_string(scheduler().thread() / kWarpgroup) +
                                         " of block " + std::to_string(scheduler().block()));
  }
  const std::uint32_t group = mine.committed[0] + 1;
  // Whatever an operand's bytes come from, every thread has to know of it.
  const int actor = scheduler().actor() - thread_of_warpgroup();
  const Knowledge common = scheduler().clocks().common(actor, kWarpgroup);
  const Witness witness = memory().engine(mine.engine, group, common, first.site);
  Sums& sums = sums_of(mine, operands, threads);
  operands.note_reads(witness);
  sums.group = group;
  mine.last_group = group;
  mine.last = witness.now;
  if (operands.in_registers) mine.lent.emplace_back(operands.registers, group, witness.now);
  mine.waiting.push_back({operands, &sums, first.add, group});
  statistics().wgmma();
  if (timing.now()) compute_until(mine, group);
}

void start(Start mine, const char* file, int line) {
  meet_warpgroup({mine.name, file, line}, &mine, start_all);
}

// ---- The end of groups ----

void give_back(Warpgroup& mine, int warp, std::uint32_t before, std::uint32_t done) {
  for (LentRegisters& each : mine.lent) {
    if (each.group() > before && each.group() <= done) each.give_back(warp);
  }
  mine.lent.remove_if([](const LentRegisters& each) { return each.all_back(); });
}

void wait(Arguments lanes, std::uint32_t) {
  Warpgroup& mine = own();
  const int warp = own_warp();
  const auto left = static_cast<std::uint32_t>(*static_cast<int*>(lanes[0]));
  mine.fenced[warp] = false;
  if (mine.committed[warp] <= left) return;
  const std::uint32_t before = mine.waited[warp];
  const std::uint32_t done = mine.committed[warp] - left;
  give_back(mine, warp, before, done);
  compute_until(mine, done);
  for (auto sums = mine.sums.begin(); sums != mine.sums.end();) {
    if (sums->group > before && sums->group <= done) sums->deliver(warp);
    sums = sums->all_delivered() ? mine.sums.erase(sums) : std::next(sums);
  }
  if (done <= before) return;
  mine.waited[warp] = done;
  const int first = scheduler().actor() - scheduler().lane();
  for (int lane = 0; lane < kWarp; ++lane) scheduler().clocks().learn(first + lane, mine.engine, done);
}

}  // namespace

unsigned shared_address(const void* shared) {
  const void* site = __builtin_return_address(0);
  return static_cast<unsigned>(memory().place_in_shared(shared, 0, 1, false, site)) + kSharedWindow;
}

void fence_async() { scheduler().clocks().fence(scheduler().actor()); }

void wgmma_fence(const char* file, int line) {
  scheduler().meet({"wgmma_fence", file, line}, ~0u, nullptr,
                   [](Arguments, std::uint32_t) { own().fenced[own_warp()] = true; });
}

void wgmma_commit(const char* file, int line) {
  scheduler().meet({"wgmma_commit", file, line}, ~0u, nullptr,
                   [](Arguments, std::uint32_t) { ++own().committed[own_warp()]; });
}

void wgmma_wait(int groups_left, const char* file, int line) {
  scheduler().meet({"wgmma_wait", file, line}, ~0u, &groups_left, wait);
}

void wgmma(const char* name, Kind kind, void* sums, int columns, unsigned long long a, unsigned long long b, bool add,
           const char* file, int line) {
  Start mine{name, kind, columns, static_cast<std::uint32_t*>(sums), b, add, __builtin_return_address(0)};
  mine.a = a;
  start(mine, file, line);
}

void wgmma_sparse(const char* name, Kind kind, void* sums, int columns, unsigned long long a, unsigned long long b,
                  unsigned metadata, bool add, const char* file, int line) {
  Start mine{name, kind, columns, static_cast<std::uint32_t*>(sums), b, add, __builtin_return_address(0)};
  check_metadata(kind, 0, metadata, mine.site);
  mine.a = a;
  mine.sparse = true;
  mine.metadata = metadata;
  start(mine, file, line);
}

void wgmma_registers(const char* name, Kind kind, void* sums, int columns, const unsigned* a, unsigned long long b,
                     bool add, const char* file, int line) {
  Start mine{name, kind, columns, static_cast<std::uint32_t*>(sums), b, add, __builtin_return_address(0)};
  mine.registers = a;
  start(mine, file, line);
}

void begin_wgmma(const Timing& chosen) {
  timing = chosen;
  const int of_block = (scheduler().threads() + kWarpgroup - 1) / kWarpgroup;
  warpgroups.assign(static_cast<std::size_t>(scheduler().blocks() * of_block), Warpgroup());
}

void end_wgmma_of_thread() {
  const Warpgroup& mine = own();
  if (mine.last_group <= mine.waited[own_warp()]) return;
  fail("async in flight", scheduler().name_of(scheduler().actor(), scheduler().cluster()) +
                              " ends and has not waited for " + name_of_access(mine.last));
}

}  // namespace emulator
