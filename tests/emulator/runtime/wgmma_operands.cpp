#include "wgmma_operands.h"

#include <cstring>
#include <vector>

#include "dot.h"
#include "fragments.h"
#include "memory.h"
#include "metadata.h"
#include "product.h"
#include "scheduler.h"

namespace emulator {

namespace {

constexpr int kChunksOfA = kRowBytes / 16;

void note(const Descriptor& operand, int rows, int chunks, const Witness& witness) {
  for (int row = 0; row < rows; ++row) {
    for (int i = 0; i < chunks; ++i) memory().read_operand(operand.chunk(row, i), 16, witness);
  }
}

void gather(const Descriptor& operand, int rows, int chunks, std::uint8_t* codes) {
  const unsigned char* shared = memory().shared(scheduler().rank());
  for (int row = 0; row < rows; ++row) {
    for (int i = 0; i < chunks; ++i) std::memcpy(codes + 16 * (row * chunks + i), shared + operand.chunk(row, i), 16);
  }
}

}  // namespace

std::string Operands::refusal() const {
  const std::string reason = in_registers ? "" : a.refusal(16 * kChunksOfA);
  return reason.empty() ? b.refusal(16 * chunks_of_b()) : reason;
}

void Operands::note_reads(const Witness& witness) const {
  if (!in_registers) note(a, kWgmmaRows, kChunksOfA, witness);
  note(b, columns, chunks_of_b(), witness);
}

void Operands::add_to(std::uint32_t* sums) const {
  std::uint8_t left[kWgmmaRows * kRowBytes], kept[kWgmmaRows * kMostKept];
  std::vector<std::uint8_t> right(static_cast<std::size_t>(columns * 16 * chunks_of_b()));
  if (in_registers) {
    for (int thread = 0; thread < kWarpgroup; ++thread) {
      const int lane = thread % kWarp;
      for (int r = 0; r < 4; ++r) {
        const int row = kWarpRows * (thread / kWarp) + a_row(lane, r);
        std::memcpy(left + row * kRowBytes + a_byte(lane, r), registers[thread] + r, 4);
      }
    }
  } else {
    gather(a, kWgmmaRows, kChunksOfA, left);
  }
  gather(b, columns, chunks_of_b(), right.data());
  for (int warp = 0; sparse && warp < kWarpgroup / kWarp; ++warp) {
    std::uint8_t* its = kept + warp * kWarpRows * (kMostKept / bytes_of(kind));
    find_kept(kind, 0, metadata + warp * kWarp, its);
  }
  add_product({kind, kWgmmaRows, columns, left, right.data(), sparse ? kept : nullptr}, sums);
}

}  // namespace emulator
