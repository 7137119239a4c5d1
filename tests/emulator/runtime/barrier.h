// What lies behind the functions of mbarrier.h: for them, and for copies that bring bytes.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "clocks.h"
#include "shadow.h"

namespace emulator {

// One of them; its phases are numbered from 0, and the engine of its copies has the time of completed phases.
class Barrier {
 public:
  Barrier(int rank, std::size_t offset, unsigned arrivals, const Access& initialised);

  // Of the running thread.
  void expect(unsigned bytes, const void* site);
  void arrive(bool from_here, const void* site);
  bool passed(unsigned parity) const { return (phase_ & 1) != parity; }
  void wait_turn();
  void leave(bool from_everywhere);

  // Bytes that a copy brought. By nobody's thread: a fault is noted.
  void complete(unsigned bytes);

  // What is counted in this phase, as others come to know it: a copy that lands, an arrival from elsewhere.
  Access counted() const;

  const Access& initialised() const { return initialised_; }

  // The initialisation can be seen from elsewhere since this time of its thread; 0: it cannot.
  Access fenced() const { return {fenced_at_, initialised_.cluster, initialised_.site, initialised_.actor}; }
  void fence(std::uint32_t clock) {
    if (fenced_at_ == 0) fenced_at_ = clock;
  }
  std::string text() const;

 private:
  void finish_phase();

  int rank_;
  std::size_t offset_;
  unsigned arrivals_;
  unsigned pending_;
  std::int64_t bytes_ = 0;  // announced and not yet landed
  std::uint32_t phase_ = 0;
  Access initialised_;
  std::uint32_t fenced_at_ = 0;
  int engine_;
  std::vector<int> waiting_;

  // What arrivals of this block, and of all, have told; and how much of it completed phases let others know. Those from
  // elsewhere are no release for the cluster: they only tell what engines have done.
  Knowledge told_here_, told_, known_here_, known_;
};

// The barrier at the same place in the block `rank` as `address` is in the running thread's, for an engine or from
// another block where `from_afar`; a fault if it cannot be used.
Barrier& barrier_at(const void* address, int rank, bool from_afar, const void* site);

}  // namespace emulator
