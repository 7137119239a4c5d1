#include "lent_registers.h"

#include <cstring>
#include <string>

#include "fault.h"
#include "memory.h"
#include "scheduler.h"

namespace emulator {

LentRegisters::LentRegisters(const unsigned* const (&registers)[kWarpgroup], std::uint32_t group,
                             const Access& borrower)
    : group_(group), borrower_(borrower) {
  for (int thread = 0; thread < kWarpgroup; ++thread) {
    of_[thread] = registers[thread];
    std::memcpy(held_[thread], registers[thread], sizeof held_[thread]);
  }
}

void LentRegisters::give_back(int warp) {
  for (int thread = warp * kWarp; thread < (warp + 1) * kWarp; ++thread) {
    if (std::memcmp(of_[thread], held_[thread], sizeof held_[thread]) == 0) continue;
    const int actor = scheduler().actor() - thread_of_warpgroup() + thread;
    fail("async in flight", scheduler().name_of(actor, scheduler().cluster()) + " has overwritten registers that " +
                                name_of_access(borrower_) + " reads until wgmma_wait, or they were gone before");
  }
  ++given_back_;
}

}  // namespace emulator
