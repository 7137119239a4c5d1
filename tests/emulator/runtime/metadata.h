// 2:4 metadata: which two of every four values along K a left operand keeps, and which lane says so, by the PTX
// manual's figures of m16n8k64 (8 bits) and m16n8k32 (16 bits).
#pragma once
#include <cstdint>

#include "kinds.h"
#include "scheduler.h"

namespace emulator {

constexpr int kWarpRows = 16;
constexpr int kMostKept = 32;  // values of a row

// A fault where the running lane is asked, and a nibble of its word names anything but two values in order.
void check_metadata(Kind kind, int selector, std::uint32_t word, const void* site);

// For each value that a row keeps, with which of b's it is multiplied: [16 rows][32 / bytes of a value]. `words` are
// those of a warp's lanes.
void find_kept(Kind kind, int selector, const std::uint32_t* words, std::uint8_t* kept);

}  // namespace emulator
