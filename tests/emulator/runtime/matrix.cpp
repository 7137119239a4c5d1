#include "matrix.h"

#include <cstdint>
#include <cstring>

#include "dot.h"
#include "fragments.h"
#include "memory.h"
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

// ---- stmatrix ----

namespace {
struct Store {
  const unsigned* fragment;
  void* row;
};
}  // namespace

void stmatrix_x4(void* row, const unsigned (&fragment)[4], const char* file, int line) {
  memory().write_shared(row, 16, __builtin_return_address(0));
  Store mine{fragment, row};
  const auto act = [](Arguments lanes, std::uint32_t) {
    const void* rows[kWarp];
    for (int lane = 0; lane < kWarp; ++lane) rows[lane] = static_cast<Store*>(lanes[lane])->row;
    for (int lane = 0; lane < kWarp; ++lane) {
      for (int matrix = 0; matrix < 4; ++matrix) {
        char* target = static_cast<char*>(static_cast<Store*>(lanes[8 * matrix + lane / 4])->row) + 4 * (lane % 4);
        std::memcpy(target, &static_cast<Store*>(lanes[lane])->fragment[matrix], 4);
      }
    }
    statistics().stmatrix(rows, 4);
  };
  scheduler().meet({"stmatrix_x4", file, line}, ~0u, &mine, act);
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
template <class Sum, class Value, class Decode, class Dot>
void multiply(Arguments lanes, Decode decode, Dot dot) {
  std::uint8_t a[16][kDepth];
  std::uint8_t b[8][kDepth];
  for (int lane = 0; lane < kWarp; ++lane) {
    const auto* registers = static_cast<const Registers<Sum>*>(lanes[lane]);
    for (int byte = 0; byte < 4; ++byte) {
      for (int r = 0; r < 4; ++r) a[a_row(lane, r)][a_column(lane, r, byte)] = byte_of(registers->a[r], byte);
      for (int r = 0; r < 2; ++r) b[b_column(lane)][b_row(lane, r, byte)] = byte_of(registers->b[r], byte);
    }
  }
  Value left[16][kDepth];
  Value right[8][kDepth];
  decode(a[0], 16 * kDepth, left[0]);
  decode(b[0], 8 * kDepth, right[0]);
  for (int lane = 0; lane < kWarp; ++lane) {
    Sum* c = static_cast<Registers<Sum>*>(lanes[lane])->c;
    for (int r = 0; r < 4; ++r) c[r] = dot(c[r], left[c_row(lane, r)], right[c_column(lane, r)]);
  }
  statistics().mma();
}

void decode_s8(const std::uint8_t* codes, int count, std::int8_t* values) {
  std::memcpy(values, codes, static_cast<std::size_t>(count));
}

}  // namespace

void mma_s8(int (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, const char* file, int line) {
  Registers<int> mine{c, a, {b0, b1}};
  const auto act = [](Arguments lanes, std::uint32_t) { multiply<int, std::int8_t>(lanes, decode_s8, dot_s8); };
  scheduler().meet({"mma_s8", file, line}, ~0u, &mine, act);
}

void mma_e4m3(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, const char* file, int line) {
  Registers<float> mine{c, a, {b0, b1}};
  const auto act = [](Arguments lanes, std::uint32_t) { multiply<float, float>(lanes, decode_e4m3, dot_e4m3); };
  scheduler().meet({"mma_e4m3", file, line}, ~0u, &mine, act);
}

}  // namespace emulator
