// What works beside the threads, for those who run them: copies, barriers in memory, tensor cores.
#pragma once
#include "random.h"

namespace emulator {

// When asynchronous work is done: at once, as late as is legal, or at random for each piece of it.
enum class Moves : int { at_random, early, late };

class Timing {
 public:
  Timing() = default;
  Timing(Moves moves, Random random) : moves_(moves), random_(random) {}

  bool now() { return moves_ == Moves::early || (moves_ == Moves::at_random && random_.below(2) == 0); }

  // For work that is waiting, whenever somebody has run.
  bool meanwhile() { return moves_ != Moves::late && random_.below(4) == 0; }

  std::uint32_t below(std::uint32_t bound) { return random_.below(bound); }

 private:
  Moves moves_ = Moves::at_random;
  Random random_;
};

// Before a cluster runs.
void begin_engines(Moves moves, Random random);

// The running thread, or the last one of its block, is about to end: what it leaves undone is a fault.
void end_thread();
void end_block();

// Between two threads' turns: may do what is due.
void work_meanwhile();

// Nobody can run. Does one thing that is due; false if nothing is.
bool work_at_last();

}  // namespace emulator
