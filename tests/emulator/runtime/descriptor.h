// What a wgmma descriptor says of an operand in shared memory: rows of 32 bytes along K, by the PTX manual's table.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "tensor_map.h"

namespace emulator {

// The address of a block's first byte, as instructions name shared memory: on Hopper 1 KiB before it is the system's.
constexpr std::uint32_t kSharedWindow = 1024;

class Descriptor {
 public:
  explicit Descriptor(std::uint64_t bits) : bits_(bits) {}

  // What the emulator does not know of, or nobody should write; empty: nothing.
  std::string refusal() const;

  // Where 16 bytes of a row lie in the block's memory; may be outside of it.
  std::size_t chunk(int row, int index) const {
    const std::size_t address = start() + static_cast<std::size_t>(row / 8) * 16 * field(32, 14) +
                                static_cast<std::size_t>(row % 8) * 128 + 16 * static_cast<std::size_t>(index);
    return swizzled(address) - kSharedWindow;
  }

 private:
  std::uint64_t field(int first, int count) const { return bits_ >> first & ((std::uint64_t{1} << count) - 1); }
  std::size_t start() const { return field(0, 14) * 16; }

  std::uint64_t bits_;
};

inline std::string Descriptor::refusal() const {
  const auto text = [](std::uint64_t number) { return std::to_string(number); };
  constexpr std::uint64_t kUnused = 0x3FF1'C000'C000'C000;
  if (field(62, 2) != 1) return "the swizzle mode " + text(field(62, 2)) + ", where 1 is 128 bytes";
  if (field(32, 14) != 64) return "8 rows at a distance of " + text(16 * field(32, 14)) + " bytes, not 1024";
  if (field(49, 3) != 0) return "a base offset";
  if ((bits_ & kUnused) != 0) return "bits that mean nothing";
  if (start() % 1024 >= 128) return "a start in the middle of the swizzle's pattern";
  return "";
}

}  // namespace emulator
