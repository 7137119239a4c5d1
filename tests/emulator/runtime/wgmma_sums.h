// The sums of a warpgroup while they are not its threads' to touch: from its first wgmma until it has waited for the
// last.
#pragma once
#include <cstdint>
#include <vector>

#include "scheduler.h"
#include "warpgroup.h"
#include "wgmma_operands.h"

namespace emulator {

class Sums {
 public:
  // Takes what the threads hold at these places, and leaves nonsense there: NaN as a float.
  Sums(const Operands& operands, std::uint32_t* const (&places)[kWarpgroup]);

  // A wgmma adds to sums of its own shape only.
  bool are(const Operands& operands, const std::uint32_t* place_of_first) const {
    return place_of_first == places_[0] && kind_ == operands.kind && sparse_ == operands.sparse &&
           columns_ == operands.columns;
  }
  bool overlap(int columns, const std::uint32_t* place_of_first) const {
    return places_[0] < place_of_first + columns / 2 && place_of_first < places_[0] + count();
  }

  std::vector<std::uint32_t>& words() { return words_; }  // [64][columns], float or s32

  // To the threads of a warp.
  void deliver(int warp);
  bool all_delivered() const { return delivered_ == kWarpgroup / kWarp; }

  std::uint32_t group = 0;  // the last one that adds to them

 private:
  int count() const { return columns_ / 2; }
  std::uint32_t& word(int thread, int i);

  Kind kind_;
  bool sparse_;
  int columns_;
  std::uint32_t* places_[kWarpgroup];
  std::vector<std::uint32_t> words_;
  int delivered_ = 0;  // to that many warps
};

}  // namespace emulator
