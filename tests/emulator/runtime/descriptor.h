// What a wgmma descriptor says of an operand in shared memory: rows along K, swizzled in 128 or in 64 bytes, by the PTX
// manual's table.
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

  // What the emulator does not know of, or nobody should write, for rows of so many bytes; empty: nothing.
  std::string refusal(int row_bytes) const;

  // Where 16 bytes of a row lie in the block's memory; may be outside of it.
  std::size_t chunk(int row, int index) const {
    const std::size_t address = start() + static_cast<std::size_t>(row / 8) * distance() +
                                static_cast<std::size_t>(row % 8) * span() + 16 * static_cast<std::size_t>(index);
    return swizzled(address, span()) - kSharedWindow;
  }

 private:
  std::uint64_t field(int first, int count) const { return bits_ >> first & ((std::uint64_t{1} << count) - 1); }
  std::uint64_t mode() const { return field(62, 2); }
  std::size_t span() const { return mode() == 1 ? 128 : 64; }  // of the swizzle; rows are as far apart
  std::size_t start() const { return field(0, 14) * 16; }
  std::size_t distance() const { return field(32, 14) * 16; }  // of 8 rows

  std::uint64_t bits_;
};

inline std::string Descriptor::refusal(int row_bytes) const {
  const auto text = [](std::uint64_t number) { return std::to_string(number); };
  constexpr std::uint64_t kUnused = 0x3FF1'C000'C000'C000;
  if (mode() != 1 && mode() != 2) {
    return "the swizzle mode " + text(mode()) + ", where 1 is 128 bytes and 2 is 64";
  }
  if (distance() != 8 * span()) {
    return "8 rows at a distance of " + text(distance()) + " bytes, not " + text(8 * span());
  }
  if (field(49, 3) != 0) return "a base offset";
  if ((bits_ & kUnused) != 0) return "bits that mean nothing";
  if (start() % (8 * span()) >= span()) return "a start in the middle of the swizzle's pattern";
  if (start() % span() + static_cast<std::size_t>(row_bytes) > span()) {
    return "rows of " + text(static_cast<std::uint64_t>(row_bytes)) + " bytes that leave the swizzle's " +
           text(span());
  }
  return "";
}

}  // namespace emulator
