// Where each register of each lane belongs in the matrices of a warp's product (m16n8). Of two factors, along K: what 4
// codes of 8 bits are, and 2 of 16, lies in the same 4 bytes.
#pragma once

namespace emulator {

// With g = lane / 4 and t = lane % 4: the first byte of a[r], in rows of 32 bytes.
inline int a_row(int lane, int r) { return lane / 4 + 8 * (r & 1); }
inline int a_byte(int lane, int r) { return 4 * (lane % 4) + 16 * (r >> 1); }

// The first byte of b[r], in columns of 32 bytes, or of 64 where a keeps half of its values.
inline int b_column(int lane) { return lane / 4; }
inline int b_byte(int lane, int r) { return 4 * (lane % 4) + 16 * r; }

inline int c_row(int lane, int r) { return lane / 4 + 8 * (r >> 1); }
inline int c_column(int lane, int r) { return 2 * (lane % 4) + (r & 1); }

}  // namespace emulator
