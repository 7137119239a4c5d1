// The emulator's own encoding of a tensor map, and where a box of it lies. emulator.py fills it in.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace emulator {

struct TensorMap {
  static constexpr std::uint64_t kMagic = 0x70616D726F736E65;

  std::uint64_t magic;
  std::uint64_t address;
  std::uint64_t rows;
  std::uint64_t row_bytes;
  std::uint64_t stride;
  std::uint32_t box_rows;
  std::uint32_t box_bytes;
  std::uint32_t swizzle;  // bytes of its span; 0: none

  std::size_t size_of_box() const { return std::size_t{box_rows} * box_bytes; }

  // Where boxes begin in shared memory: where the swizzle's pattern does, since a kernel may think of offsets instead
  // of addresses.
  std::size_t alignment() const { return swizzle == 0 ? 128 : 8 * std::size_t{swizzle}; }

  // What is wrong with it; empty: nothing.
  std::string refusal() const;
};

// Where the hardware puts a byte of shared memory, by its offset from any multiple of 1024: the 16-byte chunks of each
// `span` bytes, 128 or 64, change places by the number of the 128 bytes that they lie in; a span of 0 changes nothing.
inline std::size_t swizzled(std::size_t offset, std::size_t span) {
  return span == 0 ? offset : offset ^ ((offset >> 7 & (span / 16 - 1)) << 4);
}

// A row of a box and the part of it that lies within the tensor.
struct BoxRow {
  std::size_t first;  // byte of the box's row
  std::size_t bytes;  // 0: it lies outside
  unsigned char* global;
};

BoxRow box_row(const TensorMap& map, std::int64_t x, std::int64_t y, std::size_t row);

// What a kernel's argument points to; a fault if it is no map, or one that the driver would refuse.
const TensorMap& map_at(const void* address, const void* site);

}  // namespace emulator
