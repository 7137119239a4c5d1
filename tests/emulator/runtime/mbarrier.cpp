#include "mbarrier.h"

#include <string>
#include <unordered_map>

#include "barrier.h"
#include "cluster.h"
#include "fault.h"
#include "memory.h"
#include "scheduler.h"

namespace emulator {

namespace {

constexpr std::size_t kBytes = 8;
constexpr unsigned kMaxArrivals = (1 << 20) - 1;
constexpr std::int64_t kMaxBytes = (1 << 20) - 1;

// Of each block of the cluster, by offset in its shared memory.
std::unordered_map<std::size_t, Barrier> barriers[kMaxCluster];

std::string place_text(int rank, std::size_t offset) {
  return "the mbarrier at byte " + std::to_string(offset) + " of block " + std::to_string(scheduler().block_at(rank));
}

[[noreturn]] void refuse(const char* kind, const void* site, const std::string& what) {
  fail(kind, name_of_access(memory().witness(site).now) + " " + what);
}

}  // namespace

// ---- One barrier ----

Barrier::Barrier(int rank, std::size_t offset, unsigned arrivals, const Access& initialised)
    : rank_(rank),
      offset_(offset),
      arrivals_(arrivals),
      pending_(arrivals),
      initialised_(initialised),
      engine_(scheduler().add_engine("a copy that " + place_text(rank, offset) + " counts")) {}

std::string Barrier::text() const { return place_text(rank_, offset_); }

void Barrier::expect(unsigned bytes, const void* site) {
  bytes_ += bytes;
  if (bytes_ > kMaxBytes) {
    refuse("mbarrier", site, "announces more bytes than " + text() + " can count: " + std::to_string(bytes_));
  }
}

void Barrier::arrive(bool from_here, const void* site) {
  if (pending_ == 0) {
    refuse("mbarrier", site, "arrives at " + text() + ", where all " + std::to_string(arrivals_) +
                                 " arrivals of phase " + std::to_string(phase_) + " have been");
  }
  Clocks& clocks = scheduler().clocks();
  const int actor = scheduler().actor();
  learn(told_, clocks.known_to(actor), from_here ? 0 : scheduler().actors());
  if (from_here) learn(told_here_, clocks.known_to(actor));
  clocks.tick(actor);
  --pending_;
  finish_phase();
}

void Barrier::complete(unsigned bytes) {
  bytes_ -= bytes;
  if (bytes_ < -kMaxBytes) note_fault("mbarrier", text() + " gets more bytes than it can count");
  finish_phase();
}

void Barrier::finish_phase() {
  if (pending_ != 0 || bytes_ != 0) return;
  ++phase_;
  pending_ = arrivals_;
  known_ = told_;
  known_here_ = told_here_;
  for (int actor : waiting_) scheduler().wake(actor);
  waiting_.clear();
}

void Barrier::wait_turn() { waiting_.push_back(scheduler().actor()); }

void Barrier::leave(bool from_everywhere) {
  Clocks& clocks = scheduler().clocks();
  const int actor = scheduler().actor();
  clocks.learn(actor, from_everywhere ? known_ : known_here_);
  clocks.learn(actor, engine_, phase_);
}

Access Barrier::counted() const {
  return {phase_ + 1, scheduler().cluster(), 0, static_cast<std::uint16_t>(engine_), true};
}

// ---- All of them ----

void begin_mbarriers() {
  for (auto& each : barriers) each.clear();
}

Barrier& barrier_at(const void* address, int rank, bool from_afar, const void* site) {
  const std::size_t offset = memory().place_in_shared(address, kBytes, kBytes, true, site);
  const auto found = barriers[rank].find(offset);
  if (found == barriers[rank].end()) {
    refuse("mbarrier", site, "uses " + place_text(rank, offset) + ", which nobody has initialised");
  }
  Barrier& barrier = found->second;
  const Access& initialised = barrier.initialised();
  if (!memory().witness(site).sees(initialised)) {
    refuse("race", site,
           "uses " + barrier.text() + ", unordered with its initialisation by " + name_of_access(initialised));
  }
  const Access fenced = barrier.fenced();
  if (from_afar && (fenced.clock == 0 || !memory().witness(site).sees(fenced))) {
    refuse("missing fence", site,
           "has " + barrier.text() + " used from elsewhere, without an mbarrier_init_fence after its initialisation " +
               "by " + name_of_access(initialised));
  }
  return barrier;
}

void mbarrier_init(unsigned long long* barrier, unsigned arrivals) {
  const void* site = __builtin_return_address(0);
  const int rank = scheduler().rank();
  const std::size_t offset = memory().place_in_shared(barrier, kBytes, kBytes, true, site);
  if (arrivals == 0 || arrivals > kMaxArrivals) {
    refuse("bad argument", site, "initialises an mbarrier with " + std::to_string(arrivals) + " arrivals");
  }
  if (barriers[rank].count(offset) != 0) {
    refuse("mbarrier", site, "initialises " + place_text(rank, offset) + " a second time");
  }
  memory().make_barrier(barrier, kBytes, site);
  barriers[rank].emplace(offset, Barrier(rank, offset, arrivals, memory().witness(site).now));
}

// The thread's own barriers so far. Its next barrier of threads, or the like, tells others of the fence too.
void mbarrier_init_fence() {
  const Access now = memory().witness(__builtin_return_address(0)).now;
  for (auto& [offset, barrier] : barriers[scheduler().rank()]) {
    if (barrier.initialised().actor == now.actor) barrier.fence(now.clock);
  }
  scheduler().clocks().tick(now.actor);
}

void mbarrier_expect_bytes(unsigned long long* barrier, unsigned bytes) {
  const void* site = __builtin_return_address(0);
  Barrier& here = barrier_at(barrier, scheduler().rank(), false, site);
  here.expect(bytes, site);
  here.arrive(true, site);
}

void mbarrier_arrive(unsigned long long* barrier) {
  const void* site = __builtin_return_address(0);
  barrier_at(barrier, scheduler().rank(), false, site).arrive(true, site);
}

void mbarrier_arrive_remote(unsigned long long* barrier, unsigned rank) {
  const void* site = __builtin_return_address(0);
  check_block(rank, site);
  const int target = static_cast<int>(rank);
  const bool from_here = target == scheduler().rank();
  Barrier& there = barrier_at(barrier, target, !from_here, site);
  if (!from_here) note_arrival(target, there.counted(), memory().witness(site).now);
  there.arrive(from_here, site);
}

// A thread that is slow to look may find that the next phase has completed too; then it waits on, as on a GPU.
static void wait_for(Barrier& barrier, unsigned parity, bool from_everywhere, const Place& place, const void* site) {
  if (parity > 1) refuse("bad argument", site, "waits for the parity " + std::to_string(parity));
  while (!barrier.passed(parity)) {
    barrier.wait_turn();
    scheduler().wait(place);
  }
  barrier.leave(from_everywhere);
}

void mbarrier_wait(unsigned long long* barrier, unsigned parity, const char* file, int line) {
  const void* site = __builtin_return_address(0);
  Barrier& here = barrier_at(barrier, scheduler().rank(), false, site);
  wait_for(here, parity, false, {"mbarrier_wait", file, line}, site);
}

void mbarrier_wait_cluster(unsigned long long* barrier, unsigned parity, const char* file, int line) {
  const void* site = __builtin_return_address(0);
  Barrier& here = barrier_at(barrier, scheduler().rank(), false, site);
  wait_for(here, parity, true, {"mbarrier_wait_cluster", file, line}, site);
}

}  // namespace emulator
