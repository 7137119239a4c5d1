// One launch, as the host hands it over.
#pragma once
#include <cstdint>

#include "memory.h"
#include "statistics.h"

namespace emulator {

struct Request {
  const void* arguments;
  std::uint64_t argument_bytes;
  std::uint32_t grid;
  std::uint32_t cluster;
  std::uint32_t block_x;
  std::uint32_t block_y;
  std::uint32_t shared_bytes;
  std::uint64_t seed;
  std::uint32_t moves;  // of engines.h
  std::uint32_t buffers;
  const unsigned char* writable;  // one for each buffer
  const Range* ranges;
  std::uint64_t range_count;
};

struct Response {
  Counts counts;
  char kind[32];  // empty: no fault
  char message[4000];
};

const Request& running();

}  // namespace emulator
