#include "wgmma_sums.h"

#include "scheduler.h"

namespace emulator {

// What an early look at a sum finds.
static constexpr std::uint32_t kPoison = 0xFFC0FFEE;

Sums::Sums(const Operands& operands, std::uint32_t* const (&places)[kWarpgroup])
    : kind_(operands.kind),
      sparse_(operands.sparse),
      columns_(operands.columns),
      words_(static_cast<std::size_t>(kWgmmaRows * operands.columns)) {
  for (int thread = 0; thread < kWarpgroup; ++thread) {
    places_[thread] = places[thread];
    for (int i = 0; i < count(); ++i) {
      word(thread, i) = places[thread][i];
      places[thread][i] = kPoison;
    }
  }
}

std::uint32_t& Sums::word(int thread, int i) {
  const int row = 16 * (thread / kWarp) + thread % kWarp / 4 + 8 * (i / 2 % 2);
  const int column = 8 * (i / 4) + 2 * (thread % 4) + i % 2;
  return words_[static_cast<std::size_t>(row * columns_ + column)];
}

void Sums::deliver(int warp) {
  for (int thread = warp * kWarp; thread < (warp + 1) * kWarp; ++thread) {
    for (int i = 0; i < count(); ++i) places_[thread][i] = word(thread, i);
  }
  ++delivered_;
}

}  // namespace emulator
