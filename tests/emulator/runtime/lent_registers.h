// Registers of a warpgroup's threads that a wgmma reads at any time until it is waited for.
#pragma once
#include <cstdint>

#include "scheduler.h"
#include "shadow.h"
#include "warpgroup.h"

namespace emulator {

class LentRegisters {
 public:
  // 4 of each thread, with what they hold now; to an instruction of this group.
  LentRegisters(const unsigned* const (&registers)[kWarpgroup], std::uint32_t group, const Access& borrower);

  std::uint32_t group() const { return group_; }

  // Back to the threads of a warp, of which the running thread is one; a fault where one of them has assigned to its
  // own.
  void give_back(int warp);
  bool all_back() const { return given_back_ == kWarpgroup / kWarp; }

 private:
  const unsigned* of_[kWarpgroup];
  unsigned held_[kWarpgroup][4];
  std::uint32_t group_;
  Access borrower_;
  int given_back_ = 0;  // to that many warps
};

}  // namespace emulator
