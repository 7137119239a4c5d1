#include "scheduler.h"

#include <cstring>
#include <numeric>
#include <vector>

#include "copies.h"
#include "fault.h"
#include "fibers.h"
#include "statistics.h"

namespace emulator {

Scheduler& scheduler() {
  static Scheduler only;
  return only;
}

bool Place::operator==(const Place& other) const {
  const auto same = [](const char* a, const char* b) { return a == b || std::strcmp(a, b) == 0; };
  return line == other.line && same(operation, other.operation) && same(file, other.file);
}

std::string Place::text() const {
  return std::string(operation) + " (" + std::string(file) + ":" + std::to_string(line) + ")";
}

int Scheduler::thread() const { return fibers().current(); }

bool Scheduler::run(std::uint32_t block, int threads, void (*body)(), Random& random) {
  block_ = block;
  threads_ = threads;
  warps_ = (threads + kWarp - 1) / kWarp;
  exited_ = 0;
  at_barrier_ = 0;
  body_ = body;
  random_ = &random;
  clocks_.reset(threads);
  for (int warp = 0; warp < warps_; ++warp) warp_[warp] = Warp();
  for (int thread = 0; thread < threads; ++thread) {
    state_[thread] = Thread();
    wake(thread);
  }
  fibers().prepare(threads, &Scheduler::thread_main);
  for (int warp = pick_warp(); warp >= 0; warp = pick_warp()) {
    run_lanes(warp);
    if (fault().raised) return false;
  }
  if (exited_ == threads_) return true;
  note_stuck();
  return false;
}

void Scheduler::thread_main() {
  Scheduler& self = scheduler();
  self.body_();
  finish_copies();
  self.state_[self.thread()].exited = true;
  ++self.exited_;
}

int Scheduler::pick_warp() {
  int able[kMaxThreads / kWarp];
  std::uint32_t count = 0;
  for (int warp = 0; warp < warps_; ++warp) {
    if (warp_[warp].ready != 0) able[count++] = warp;
  }
  return count == 0 ? -1 : able[random_->below(count)];
}

// A random lane first, then all others in steps of a random odd number.
void Scheduler::run_lanes(int warp) {
  const std::uint32_t todo = warp_[warp].ready;
  const std::uint32_t first = random_->below(kWarp);
  const std::uint32_t step = 2 * random_->below(kWarp / 2) + 1;
  for (std::uint32_t i = 0; i < kWarp; ++i) {
    const std::uint32_t lane = (first + i * step) % kWarp;
    if ((todo >> lane & 1) == 0) continue;
    warp_[warp].ready &= ~(1u << lane);
    accesses_ = 0;
    fibers().resume(warp * kWarp + static_cast<int>(lane));
    if (fault().raised) return;
  }
}

void Scheduler::suspend(Waits waits, const Place& place) {
  Thread& mine = state_[thread()];
  mine.place = place;
  mine.waits = waits;
  fibers().suspend();
}

void Scheduler::wait(const Place& place) { suspend(Waits::for_wake, place); }

void Scheduler::wake(int thread) {
  state_[thread].waits = Waits::for_nothing;
  warp_[thread / kWarp].ready |= 1u << (thread % kWarp);
}

void Scheduler::meet(const Place& place, std::uint32_t mask, void* arguments,
                     void (*act)(Arguments, std::uint32_t)) {
  const int first = warp() * kWarp;
  Thread& mine = state_[thread()];
  Warp& group = warp_[warp()];
  if ((mask >> lane() & 1) == 0) {
    fail("divergence", "thread " + std::to_string(thread()) + " is not in its own mask of " + place.text());
  }
  mine.place = place;
  mine.mask = mask;
  mine.arguments = arguments;
  group.meeting |= 1u << lane();
  if (!all_meet(warp(), mask)) return suspend(Waits::for_warp, place);

  void* brought[kWarp] = {};
  for (int each = 0; each < kWarp; ++each) {
    if (mask >> each & 1) brought[each] = state_[first + each].arguments;
  }
  act(brought, mask);
  group.meeting &= ~mask;
  for (int each = 0; each < kWarp; ++each) {
    if ((mask >> each & 1) && each != lane()) wake(first + each);
  }
  if (mask == ~0u) statistics().converge(warp());
}

bool Scheduler::all_meet(int warp, std::uint32_t mask) const {
  if ((warp_[warp].meeting & mask) != mask) return false;
  const Thread& mine = state_[thread()];
  for (int lane = 0; lane < kWarp; ++lane) {
    const Thread& other = state_[warp * kWarp + lane];
    if ((mask >> lane & 1) && !(other.mask == mask && other.place == mine.place)) return false;
  }
  return true;
}

void Scheduler::barrier(const Place& place) {
  ++at_barrier_;
  state_[thread()].place = place;
  if (at_barrier_ < threads_) return suspend(Waits::for_block, place);

  at_barrier_ = 0;
  std::vector<int> all(static_cast<std::size_t>(threads_));
  std::iota(all.begin(), all.end(), 0);
  for (int other : all) {
    if (state_[other].place == place) continue;
    fail("divergence", "threads of a block wait in different barriers: thread " + std::to_string(thread()) + " in " +
                           place.text() + ", thread " + std::to_string(other) + " in " +
                           state_[other].place.text());
  }
  clocks_.join(all);
  for (int other : all) {
    if (other != thread()) wake(other);
  }
  for (int warp = 0; warp < warps_; ++warp) statistics().converge(warp);
}

// ---- What to say when nobody can run ----

void Scheduler::fail_endless() const {
  fail("deadlock", "thread " + std::to_string(thread()) + " of block " + std::to_string(block_) +
                       " runs without end: " + std::to_string(kMaxAccesses) + " accesses without a wait");
}

void Scheduler::note_stuck() const {
  for (int warp = 0; warp < warps_; ++warp) {
    if (warp_[warp].meeting == 0) continue;
    note_fault("divergence", "the lanes of warp " + std::to_string(warp) + " of block " + std::to_string(block_) +
                                 " do not come together: " + lanes_text(warp));
    return;
  }
  note_fault("deadlock", "no thread of block " + std::to_string(block_) + " can go on: " + threads_text());
}

std::string Scheduler::state_of(int thread) const {
  if (thread >= threads_) return "do not exist";
  const Thread& its = state_[thread];
  if (its.exited) return "have exited";
  std::string text = "wait in " + its.place.text();
  if (its.waits == Waits::for_warp && its.mask != ~0u) text += " for the mask " + std::to_string(its.mask);
  return text;
}

static std::string span(int first, int last) {
  return first == last ? std::to_string(first) : std::to_string(first) + "-" + std::to_string(last);
}

static std::string joined(std::string all, const std::string& next) { return all.empty() ? next : all + ", " + next; }

std::string Scheduler::lanes_text(int warp) const {
  std::string all;
  for (int first = 0, next; first < kWarp; first = next) {
    const std::string state = state_of(warp * kWarp + first);
    for (next = first + 1; next < kWarp && state_of(warp * kWarp + next) == state; ++next) continue;
    all = joined(all, "lanes " + span(first, next - 1) + " " + state);
  }
  return all;
}

std::string Scheduler::threads_text() const {
  std::string all;
  for (int first = 0, next; first < threads_; first = next) {
    const std::string state = state_of(first);
    for (next = first + 1; next < threads_ && state_of(next) == state; ++next) continue;
    all = joined(all, "threads " + span(first, next - 1) + " " + state);
  }
  return all;
}

}  // namespace emulator
