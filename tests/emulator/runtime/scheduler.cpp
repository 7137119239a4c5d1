#include "scheduler.h"

#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#include "engines.h"
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

std::string Scheduler::name_of(int actor, std::uint32_t cluster) const {
  if (actor >= actors()) return engines_[static_cast<std::size_t>(actor - actors())];
  const auto first = cluster * static_cast<std::uint32_t>(blocks_);
  return "thread " + std::to_string(thread_of(actor)) + " of block " +
         std::to_string(first + static_cast<std::uint32_t>(rank_of(actor)));
}

int Scheduler::add_engine(std::string name) {
  engines_.push_back(std::move(name));
  return clocks_.add_engine();
}

int Scheduler::actor() const { return fibers().current(); }

std::vector<int> Scheduler::members_of(int rank) const {
  std::vector<int> members(static_cast<std::size_t>(threads_));
  std::iota(members.begin(), members.end(), actor_of(rank, 0));
  return members;
}

void Scheduler::begin(std::uint32_t cluster, int blocks, int threads) {
  cluster_ = cluster;
  blocks_ = blocks;
  threads_ = threads;
  stride_ = (threads + kWarp - 1) / kWarp * kWarp;
  clocks_.reset(actors());
  state_.assign(static_cast<std::size_t>(actors()), Thread());
  warp_.assign(static_cast<std::size_t>(actors() / kWarp), Warp());
  able_.resize(warp_.size());
  engines_.clear();
  exited_.assign(static_cast<std::size_t>(blocks), 0);
  at_barrier_.assign(static_cast<std::size_t>(blocks), 0);
  for (int rank = 0; rank < blocks; ++rank) {
    for (int member : members_of(rank)) wake(member);
  }
}

bool Scheduler::run(void (*body)(), Random& random) {
  body_ = body;
  random_ = &random;
  fibers().prepare(actors(), &Scheduler::thread_main);
  for (;;) {
    const int warp = pick_warp();
    if (warp >= 0) {
      run_lanes(warp);
      work_meanwhile();
    } else if (!work_at_last()) {
      break;
    }
    if (fault().raised) return false;
  }
  if (all_exited()) return true;
  note_stuck();
  return false;
}

bool Scheduler::all_exited() const {
  for (int rank = 0; rank < blocks_; ++rank) {
    if (!has_exited(rank)) return false;
  }
  return true;
}

void Scheduler::thread_main() {
  Scheduler& self = scheduler();
  self.body_();
  end_thread();
  int& exited = self.exited_[static_cast<std::size_t>(self.rank())];
  if (exited + 1 == self.threads_) end_block();
  self.mine().exited = true;
  ++exited;
}

int Scheduler::pick_warp() {
  std::uint32_t count = 0;
  for (std::size_t warp = 0; warp < warp_.size(); ++warp) {
    if (warp_[warp].ready != 0) able_[count++] = static_cast<int>(warp);
  }
  return count == 0 ? -1 : able_[random_->below(count)];
}

// A random lane first, then all others in steps of a random odd number.
void Scheduler::run_lanes(int warp) {
  std::uint32_t& ready = warp_[static_cast<std::size_t>(warp)].ready;
  const std::uint32_t todo = ready;
  const std::uint32_t first = random_->below(kWarp);
  const std::uint32_t step = 2 * random_->below(kWarp / 2) + 1;
  rank_ = rank_of(warp * kWarp);
  for (std::uint32_t i = 0; i < kWarp; ++i) {
    const std::uint32_t lane = (first + i * step) % kWarp;
    if ((todo >> lane & 1) == 0) continue;
    ready &= ~(1u << lane);
    accesses_ = 0;
    fibers().resume(warp * kWarp + static_cast<int>(lane));
    if (fault().raised) return;
  }
}

void Scheduler::suspend(Waits waits, const Place& place) {
  mine().place = place;
  mine().waits = waits;
  fibers().suspend();
}

void Scheduler::wait(const Place& place) { suspend(Waits::for_wake, place); }

void Scheduler::wake(int actor) {
  state_[static_cast<std::size_t>(actor)].waits = Waits::for_nothing;
  warp_[static_cast<std::size_t>(actor / kWarp)].ready |= 1u << (actor % kWarp);
}

void Scheduler::meet(const Place& place, std::uint32_t mask, void* arguments,
                     void (*act)(Arguments, std::uint32_t)) {
  const int first = warp() * kWarp;
  Warp& group = warp_[static_cast<std::size_t>(warp())];
  if ((mask >> lane() & 1) == 0) {
    fail("divergence", "thread " + std::to_string(thread()) + " is not in its own mask of " + place.text());
  }
  mine().place = place;
  mine().mask = mask;
  mine().arguments = arguments;
  group.meeting |= 1u << lane();
  if (!all_meet(warp(), mask)) return suspend(Waits::for_warp, place);

  void* brought[kWarp] = {};
  for (int each = 0; each < kWarp; ++each) {
    if (mask >> each & 1) brought[each] = state_[static_cast<std::size_t>(first + each)].arguments;
  }
  act(brought, mask);
  group.meeting &= ~mask;
  for (int each = 0; each < kWarp; ++each) {
    if ((mask >> each & 1) && each != lane()) wake(first + each);
  }
  if (mask == ~0u) statistics().converge(warp());
}

bool Scheduler::all_meet(int warp, std::uint32_t mask) const {
  if ((warp_[static_cast<std::size_t>(warp)].meeting & mask) != mask) return false;
  const Thread& me = state_[static_cast<std::size_t>(actor())];
  for (int lane = 0; lane < kWarp; ++lane) {
    const Thread& other = state_[static_cast<std::size_t>(warp * kWarp + lane)];
    if ((mask >> lane & 1) && !(other.mask == mask && other.place == me.place)) return false;
  }
  return true;
}

void Scheduler::barrier(const Place& place) {
  int& arrived = at_barrier_[static_cast<std::size_t>(rank())];
  mine().place = place;
  if (++arrived < threads_) return suspend(Waits::for_block, place);

  arrived = 0;
  const std::vector<int> all = members_of(rank());
  for (int other : all) {
    const Place& its = state_[static_cast<std::size_t>(other)].place;
    if (its == place) continue;
    fail("divergence", "threads of a block wait in different barriers: thread " + std::to_string(thread()) + " in " +
                           place.text() + ", thread " + std::to_string(thread_of(other)) + " in " + its.text());
  }
  clocks_.join(all);
  for (int other : all) {
    if (other != actor()) wake(other);
    if (other % kWarp == 0) statistics().converge(other / kWarp);
  }
}

// ---- What to say when nobody can run ----

void Scheduler::fail_endless() const {
  fail("deadlock", name_of(actor(), cluster_) + " runs without end: " + std::to_string(kMaxAccesses) +
                       " accesses without a wait");
}

void Scheduler::note_stuck() const {
  for (std::size_t warp = 0; warp < warp_.size(); ++warp) {
    if (warp_[warp].meeting == 0) continue;
    const int first = static_cast<int>(warp) * kWarp;
    note_fault("divergence", "the lanes of warp " + std::to_string(thread_of(first) / kWarp) + " of block " +
                                 std::to_string(block_of(first)) + " do not come together: " +
                                 lanes_text(static_cast<int>(warp)));
    return;
  }
  std::string text;
  for (int rank = 0; rank < blocks_; ++rank) {
    if (has_exited(rank)) continue;
    text += (text.empty() ? "no thread of block " : "; nor of block ") + std::to_string(block_at(rank)) +
            (text.empty() ? " can go on: " : ": ") + threads_text(rank);
  }
  note_fault("deadlock", text);
}

std::string Scheduler::state_of(int actor) const {
  if (thread_of(actor) >= threads_) return "do not exist";
  const Thread& its = state_[static_cast<std::size_t>(actor)];
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

std::string Scheduler::threads_text(int rank) const {
  std::string all;
  for (int first = 0, next; first < threads_; first = next) {
    const std::string state = state_of(actor_of(rank, first));
    for (next = first + 1; next < threads_ && state_of(actor_of(rank, next)) == state; ++next) continue;
    all = joined(all, "threads " + span(first, next - 1) + " " + state);
  }
  return all;
}

}  // namespace emulator
