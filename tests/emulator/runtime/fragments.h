// Which element of a 16 x 8 x 32-byte product each register of each lane holds (m16n8k32 of 8-bit types).
#pragma once
#include <cstdint>

namespace emulator {

// With g = lane / 4 and t = lane % 4: byte `byte` of a[r].
inline int a_row(int lane, int r) { return lane / 4 + 8 * (r & 1); }
inline int a_column(int lane, int r, int byte) { return 4 * (lane % 4) + byte + 16 * (r >> 1); }

// Byte `byte` of b[r]; B is stored as [n][k].
inline int b_column(int lane) { return lane / 4; }
inline int b_row(int lane, int r, int byte) { return 4 * (lane % 4) + byte + 16 * r; }

inline int c_row(int lane, int r) { return lane / 4 + 8 * (r >> 1); }
inline int c_column(int lane, int r) { return 2 * (lane % 4) + (r & 1); }

inline std::uint8_t byte_of(std::uint32_t word, int byte) { return static_cast<std::uint8_t>(word >> 8 * byte); }

}  // namespace emulator
