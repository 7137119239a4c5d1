#include "matrix.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "fragments.h"
#include "memory.h"
#include "numbers.h"
#include "scheduler.h"
#include "statistics.h"

namespace emulator {

// ---- ldmatrix ----

namespace {
struct Load {
  unsigned* fragment;
  const void* row;
};
}  // namespace

void ldmatrix_x4(unsigned (&fragment)[4], const void* row, const char* file, int line) {
  memory().read_shared(row, 16, __builtin_return_address(0));
  Load mine{fragment, row};
  const auto act = [](Arguments lanes, std::uint32_t) {
    const void* rows[kWarp];
    for (int lane = 0; lane < kWarp; ++lane) rows[lane] = static_cast<Load*>(lanes[lane])->row;
    for (int lane = 0; lane < kWarp; ++lane) {
      for (int matrix = 0; matrix < 4; ++matrix) {
        const char* source = static_cast<const char*>(rows[8 * matrix + lane / 4]) + 4 * (lane % 4);
        std::memcpy(&static_cast<Load*>(lanes[lane])->fragment[matrix], source, 4);
      }
    }
    statistics().ldmatrix(rows, 4);
  };
  scheduler().meet({"ldmatrix_x4", file, line}, ~0u, &mine, act);
}

// ---- mma ----

namespace {

template <class Sum>
struct Registers {
  Sum* c;
  const unsigned* a;
  unsigned b[2];
};

// Gathers the operands, has `dot` compute each element of c from 32 codes of a row and of a column, and stores it.
template <class Sum, class Dot>
void multiply(Arguments lanes, Dot dot) {
  std::uint8_t a[16][32];
  std::uint8_t b[8][32];
  for (int lane = 0; lane < kWarp; ++lane) {
    const auto* registers = static_cast<const Registers<Sum>*>(lanes[lane]);
    for (int byte = 0; byte < 4; ++byte) {
      for (int r = 0; r < 4; ++r) a[a_row(lane, r)][a_column(lane, r, byte)] = byte_of(registers->a[r], byte);
      for (int r = 0; r < 2; ++r) b[b_column(lane)][b_row(lane, r, byte)] = byte_of(registers->b[r], byte);
    }
  }
  for (int lane = 0; lane < kWarp; ++lane) {
    Sum* c = static_cast<Registers<Sum>*>(lanes[lane])->c;
    for (int r = 0; r < 4; ++r) c[r] = dot(c[r], a[c_row(lane, r)], b[c_column(lane, r)]);
  }
  statistics().mma();
}

std::int32_t dot_s8(std::int32_t sum, const std::uint8_t* a, const std::uint8_t* b) {
  std::uint32_t wrapped = static_cast<std::uint32_t>(sum);  // overflow wraps, as without .satfinite
  for (int k = 0; k < 32; ++k) {
    wrapped += static_cast<std::uint32_t>(static_cast<std::int8_t>(a[k]) * static_cast<std::int8_t>(b[k]));
  }
  return static_cast<std::int32_t>(wrapped);
}

// FP8 tensor cores do not add like FP32. The 33 addends, c and the 32 exact products, are aligned to the largest
// exponent among them, and each keeps 13 bits of fraction below that leading bit; the rest is cut off toward zero. The
// aligned addends are summed exactly. That Ada and Hopper keep about 14 bits: DeepSeek-V3 technical report, section 3.3
// (Hopper); SageAttention2 (13 mantissa bits, Ada). This is a model of what was measured, not a specification.
float dot_e4m3(float sum, const std::uint8_t* a, const std::uint8_t* b) {
  static const struct Table {
    double value[256];
    Table() {
      for (int code = 0; code < 256; ++code) value[code] = e4m3_value(static_cast<unsigned char>(code));
    }
  } table;
  constexpr int kFractionBits = 13;
  double addends[33];
  double largest = 0;
  for (int k = 0; k < 33; ++k) {
    addends[k] = k == 32 ? static_cast<double>(sum) : table.value[a[k]] * table.value[b[k]];
    if (!std::isfinite(addends[k])) {
      // Whatever is added to NaN or infinity.
      double all = sum;
      for (int i = 0; i < 32; ++i) all += table.value[a[i]] * table.value[b[i]];
      return static_cast<float>(all);
    }
    largest = std::fmax(largest, std::fabs(addends[k]));
  }
  if (largest == 0) return 0;
  const double unit = std::ldexp(1, std::ilogb(largest) - kFractionBits);
  double total = 0;
  for (double addend : addends) total += std::trunc(addend / unit);
  return static_cast<float>(total * unit);
}

}  // namespace

void mma_s8(int (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, const char* file, int line) {
  Registers<int> mine{c, a, {b0, b1}};
  const auto act = [](Arguments lanes, std::uint32_t) { multiply<int>(lanes, dot_s8); };
  scheduler().meet({"mma_s8", file, line}, ~0u, &mine, act);
}

void mma_e4m3(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, const char* file, int line) {
  Registers<float> mine{c, a, {b0, b1}};
  const auto act = [](Arguments lanes, std::uint32_t) { multiply<float>(lanes, dot_e4m3); };
  scheduler().meet({"mma_e4m3", file, line}, ~0u, &mine, act);
}

}  // namespace emulator
