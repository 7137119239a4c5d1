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

  std::size_t size_of_box() const { return std::size_t{box_rows} * box_bytes; }

  // What is wrong with it; empty: nothing.
  std::string refusal() const;
};

// Where the hardware puts a byte of shared memory, by its offset from any multiple of 1024: 16-byte chunks of a row of
// 128 bytes change places by the row's number.
inline std::size_t swizzled(std::size_t offset) { return offset ^ ((offset >> 7 & 7) << 4); }

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
