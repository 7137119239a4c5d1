#include "thread.h"

#include "fault.h"
#include "launch.h"
#include "memory.h"
#include "scheduler.h"

namespace emulator {

uint3 thread_index() {
  const unsigned thread = static_cast<unsigned>(scheduler().thread());
  const unsigned width = running().block_x;
  return {thread % width, thread / width, 0};
}

uint3 block_index() { return {scheduler().block(), 0, 0}; }
uint3 block_size() { return {running().block_x, running().block_y, 1}; }
uint3 grid_size() { return {running().grid, 1, 1}; }
int lane_index() { return scheduler().lane(); }
unsigned char* shared_memory() { return memory().shared(scheduler().rank()); }

void sync_block(const char* file, int line) { scheduler().barrier({"__syncthreads", file, line}); }

void sync_warp(unsigned mask, const char* file, int line) {
  const auto join = [](Arguments, std::uint32_t lanes) {
    std::vector<int> members;
    for (int lane = 0; lane < kWarp; ++lane) {
      if (lanes >> lane & 1) members.push_back(scheduler().warp() * kWarp + lane);
    }
    scheduler().clocks().join(members);
  };
  scheduler().meet({"__syncwarp", file, line}, mask, nullptr, join);
}

namespace {
struct Exchange {
  unsigned brought;
  int source;
  unsigned received;
};
}  // namespace

unsigned exchange(const char* operation, unsigned mask, unsigned value, int source, const char* file, int line) {
  const Place place{operation, file, line};
  if ((mask >> source & 1) == 0) {
    fail("divergence", "thread " + std::to_string(scheduler().thread()) + " wants the value of lane " +
                           std::to_string(source) + ", which the mask of " + place.text() + " leaves out");
  }
  Exchange mine{value, source, 0};
  const auto act = [](Arguments lanes, std::uint32_t) {
    for (void* lane : lanes) {
      Exchange* each = static_cast<Exchange*>(lane);
      if (each != nullptr) each->received = static_cast<Exchange*>(lanes[each->source])->brought;
    }
  };
  scheduler().meet(place, mask, &mine, act);
  return mine.received;
}

}  // namespace emulator
