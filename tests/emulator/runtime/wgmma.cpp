#include "wgmma.h"

#include <cstring>
#include <deque>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "descriptor.h"
#include "dot.h"
#include "fault.h"
#include "memory.h"
#include "scheduler.h"
#include "statistics.h"
#include "warpgroup.h"

namespace emulator {

namespace {

constexpr int kRows = 64;
constexpr int kWarps = kWarpgroup / kWarp;

// What an early look at a sum finds: NaN as a float.
constexpr std::uint32_t kPoison = 0xFFC0FFEE;

// The sums of a warpgroup while they are not its threads' to touch. Words: float or s32.
struct Sums {
  bool fp8;
  int columns;
  std::uint32_t* of[kWarpgroup];
  std::vector<std::uint32_t> words;  // [64][columns]
  std::uint32_t group = 0;           // the last one that adds to them
  int delivered = 0;                 // to that many warps

  int count() const { return columns / 2; }
  std::uint32_t& word(int thread, int i) {
    const int row = 16 * (thread / kWarp) + thread % kWarp / 4 + 8 * (i / 2 % 2);
    const int column = 8 * (i / 4) + 2 * (thread % 4) + i % 2;
    return words[static_cast<std::size_t>(row * columns + column)];
  }
};

struct Product {
  Sums* sums;
  Descriptor a, b;
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
  std::deque<Product> waiting;  // in order
};

Timing timing;
std::vector<Warpgroup> warpgroups;

Warpgroup& own() { return warpgroups[static_cast<std::size_t>(warpgroup())]; }
int own_warp() { return thread_of_warpgroup() / kWarp; }

// ---- One product ----

void gather(const Descriptor& operand, int rows, std::uint8_t* codes) {
  const unsigned char* shared = memory().shared(scheduler().rank());
  for (int row = 0; row < rows; ++row) {
    for (int i = 0; i < 2; ++i) std::memcpy(codes + row * kDepth + 16 * i, shared + operand.chunk(row, i), 16);
  }
}

template <class Sum, class Value, class Decode, class Dot>
void multiply(const Product& product, Decode decode, Dot dot) {
  const int columns = product.sums->columns;
  std::uint8_t codes[256 * kDepth];
  std::vector<Value> a(static_cast<std::size_t>(kRows * kDepth)), b(static_cast<std::size_t>(columns * kDepth));
  gather(product.a, kRows, codes);
  decode(codes, kRows * kDepth, a.data());
  gather(product.b, columns, codes);
  decode(codes, columns * kDepth, b.data());
  for (int row = 0; row < kRows; ++row) {
    for (int column = 0; column < columns; ++column) {
      std::uint32_t& word = product.sums->words[static_cast<std::size_t>(row * columns + column)];
      Sum sum = 0;
      if (product.add) std::memcpy(&sum, &word, sizeof sum);
      sum = dot(sum, &a[static_cast<std::size_t>(row * kDepth)], &b[static_cast<std::size_t>(column * kDepth)]);
      std::memcpy(&word, &sum, sizeof word);
    }
  }
}

void decode_s8(const std::uint8_t* codes, int count, std::int8_t* values) {
  std::memcpy(values, codes, static_cast<std::size_t>(count));
}

void compute(const Product& product) {
  if (product.sums->fp8) {
    multiply<float, float>(product, decode_e4m3, dot_e4m3);
  } else {
    multiply<std::int32_t, std::int8_t>(product, decode_s8, dot_s8);
  }
}

void compute_until(Warpgroup& mine, std::uint32_t group) {
  while (!mine.waiting.empty() && mine.waiting.front().group <= group) {
    compute(mine.waiting.front());
    mine.waiting.pop_front();
  }
}

// ---- Starting one ----

struct Start {
  bool fp8;
  int columns;
  std::uint32_t* sums;
  std::uint64_t a, b;
  bool add;
  const char* name;
  const void* site;
};

[[noreturn]] void refuse(const char* kind, const Start& start, const std::string& why) {
  fail(kind, name_of_access(memory().witness(start.site).now) + " " + why);
}

// A register is in the sums of one shape only while they are under way.
Sums& sums_of(Warpgroup& mine, Brought threads) {
  const Start& first = *static_cast<Start*>(threads[0]);
  for (Sums& each : mine.sums) {
    if (each.of[0] == first.sums && each.columns == first.columns && each.fp8 == first.fp8) return each;
    if (each.of[0] < first.sums + first.columns / 2 && first.sums < each.of[0] + each.count()) {
      refuse("async in flight", first, "adds to registers that are in another wgmma's sums");
    }
  }
  mine.sums.push_back({first.fp8, first.columns, {}, {}, 0, 0});
  Sums& sums = mine.sums.back();
  sums.words.resize(static_cast<std::size_t>(kRows * sums.columns));
  for (int thread = 0; thread < kWarpgroup; ++thread) {
    sums.of[thread] = static_cast<Start*>(threads[thread])->sums;
    for (int i = 0; i < sums.count(); ++i) {
      sums.word(thread, i) = sums.of[thread][i];
      sums.of[thread][i] = kPoison;
    }
  }
  return sums;
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
  for (std::uint64_t bits : {first.a, first.b}) {
    const std::string reason = Descriptor(bits).refusal();
    if (!reason.empty()) refuse("bad argument", first, "has a descriptor with " + reason);
  }
}

void read_operand(const Descriptor& operand, int rows, const Witness& witness) {
  for (int row = 0; row < rows; ++row) {
    for (int i = 0; i < 2; ++i) memory().read_operand(operand.chunk(row, i), 16, witness);
  }
}

void start_all(Brought threads) {
  Warpgroup& mine = own();
  const Start& first = *static_cast<Start*>(threads[0]);
  check(mine, threads);
  if (mine.engine < 0) {
    mine.engine = scheduler().add_engine("wgmma of warpgroup " + std::to_string(scheduler().thread() / kWarpgroup) +
                                         " of block " + std::to_string(scheduler().block()));
  }
  const std::uint32_t group = mine.committed[0] + 1;
  // Whatever an operand's bytes come from, every thread has to know of it.
  const int actor = scheduler().actor() - thread_of_warpgroup();
  const Knowledge common = scheduler().clocks().common(actor, kWarpgroup);
  const Witness witness = memory().engine(mine.engine, group, common, first.site);
  const Product product{&sums_of(mine, threads), Descriptor(first.a), Descriptor(first.b), first.add, group};
  read_operand(product.a, kRows, witness);
  read_operand(product.b, first.columns, witness);
  product.sums->group = group;
  mine.last_group = group;
  mine.last = witness.now;
  mine.waiting.push_back(product);
  statistics().wgmma();
  if (timing.now()) compute_until(mine, group);
}

void start(Start mine, const char* file, int line) {
  meet_warpgroup({mine.name, file, line}, &mine, start_all);
}

// ---- The end of groups ----

void deliver(Sums& sums, int warp) {
  for (int thread = warp * kWarp; thread < (warp + 1) * kWarp; ++thread) {
    for (int i = 0; i < sums.count(); ++i) sums.of[thread][i] = sums.word(thread, i);
  }
  ++sums.delivered;
}

void wait(Arguments lanes, std::uint32_t) {
  Warpgroup& mine = own();
  const int warp = own_warp();
  const auto left = static_cast<std::uint32_t>(*static_cast<int*>(lanes[0]));
  mine.fenced[warp] = false;
  if (mine.committed[warp] <= left) return;
  const std::uint32_t before = mine.waited[warp];
  const std::uint32_t done = mine.committed[warp] - left;
  compute_until(mine, done);
  for (auto sums = mine.sums.begin(); sums != mine.sums.end();) {
    if (sums->group > before && sums->group <= done) deliver(*sums, warp);
    sums = sums->delivered == kWarps ? mine.sums.erase(sums) : std::next(sums);
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

void wgmma_e4m3(float* sums, int columns, unsigned long long a, unsigned long long b, bool add, const char* file,
                int line) {
  auto* words = reinterpret_cast<std::uint32_t*>(sums);
  start({true, columns, words, a, b, add, "wgmma_e4m3", __builtin_return_address(0)}, file, line);
}

void wgmma_s8(int* sums, int columns, unsigned long long a, unsigned long long b, bool add, const char* file,
              int line) {
  auto* words = reinterpret_cast<std::uint32_t*>(sums);
  start({false, columns, words, a, b, add, "wgmma_s8", __builtin_return_address(0)}, file, line);
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
