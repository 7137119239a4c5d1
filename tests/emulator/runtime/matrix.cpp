#include "matrix.h"

#include <cstdint>
#include <cstring>

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

}  // namespace emulator
