// What one wgmma multiplies: descriptors of shared memory, or registers of the threads in place of the left one.
#pragma once
#include <cstdint>
#include <string>

#include "descriptor.h"
#include "kinds.h"
#include "shadow.h"
#include "warpgroup.h"

namespace emulator {

constexpr int kWgmmaRows = 64;

// What the threads bring; of all 128 where it says so.
struct Operands {
  Kind kind;
  int columns;
  bool sparse;
  bool in_registers;  // the left one
  Descriptor a, b;
  const unsigned* registers[kWarpgroup];
  std::uint32_t metadata[kWarpgroup];

  // What is wrong with its descriptors; empty: nothing.
  std::string refusal() const;

  // Notes that shared memory is read; a fault where it may not be.
  void note_reads(const Witness& witness) const;

  // Reads shared memory and registers, and adds the product to sums [64][columns], words of float or s32.
  void add_to(std::uint32_t* sums) const;

 private:
  int chunks_of_b() const { return sparse ? 4 : 2; }  // 16 bytes each, of a row
};

}  // namespace emulator
