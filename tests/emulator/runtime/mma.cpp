#include "mma.h"

#include <cstdint>
#include <cstring>

#include "dot.h"
#include "fragments.h"
#include "metadata.h"
#include "product.h"
#include "scheduler.h"
#include "statistics.h"

namespace emulator {

namespace {

constexpr int kColumns = 8;

struct Lane {
  Kind kind;
  void* c;
  const unsigned* a;
  const unsigned* b;
  int b_registers;  // 4 where a is sparse
  int selector;
  std::uint32_t metadata;
};

std::uint32_t* sum_of(std::uint32_t* sums, int lane, int r) {
  return sums + c_row(lane, r) * kColumns + c_column(lane, r);
}

void multiply(Arguments lanes, std::uint32_t) {
  const Lane& first = *static_cast<Lane*>(lanes[0]);
  const bool sparse = first.b_registers == 4;
  std::uint8_t a[kWarpRows * kRowBytes], b[kColumns * 2 * kRowBytes], kept[kWarpRows * kMostKept];
  std::uint32_t metadata[kWarp], sums[kWarpRows * kColumns];
  for (int lane = 0; lane < kWarp; ++lane) {
    const Lane& its = *static_cast<Lane*>(lanes[lane]);
    for (int r = 0; r < 4; ++r) {
      std::memcpy(a + a_row(lane, r) * kRowBytes + a_byte(lane, r), its.a + r, 4);
      std::memcpy(sum_of(sums, lane, r), static_cast<char*>(its.c) + 4 * r, 4);
    }
    for (int r = 0; r < its.b_registers; ++r) {
      std::memcpy(b + b_column(lane) * 16 * its.b_registers + b_byte(lane, r), its.b + r, 4);
    }
    metadata[lane] = its.metadata;
  }
  if (sparse) find_kept(first.kind, first.selector, metadata, kept);
  add_product({first.kind, kWarpRows, kColumns, a, b, sparse ? kept : nullptr}, sums);
  for (int lane = 0; lane < kWarp; ++lane) {
    char* c = static_cast<char*>(static_cast<Lane*>(lanes[lane])->c);
    for (int r = 0; r < 4; ++r) std::memcpy(c + 4 * r, sum_of(sums, lane, r), 4);
  }
  statistics().mma();
}

}  // namespace

void mma(const char* name, Kind kind, void* c, const unsigned* a, unsigned b0, unsigned b1, const char* file,
         int line) {
  const unsigned b[2] = {b0, b1};
  Lane mine{kind, c, a, b, 2, 0, 0};
  scheduler().meet({name, file, line}, ~0u, &mine, multiply);
}

void mma_sp(const char* name, Kind kind, void* c, const unsigned* a, const unsigned* b, unsigned metadata, int selector,
            const char* file, int line) {
  check_metadata(kind, selector, metadata, __builtin_return_address(0));
  Lane mine{kind, c, a, b, 4, selector, metadata};
  scheduler().meet({name, file, line}, ~0u, &mine, multiply);
}

}  // namespace emulator
