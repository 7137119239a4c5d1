// What a kernel asks about itself, and the ways in which its threads wait for each other.
//
// None of these functions is inline: a kernel's file is instrumented, and may not touch the emulator's own data.
#pragma once

struct uint3 {
  unsigned x, y, z;
};

namespace emulator {

// `const`: within one thread the answer never changes.
__attribute__((const)) uint3 thread_index();
__attribute__((const)) uint3 block_index();
__attribute__((const)) uint3 block_size();
__attribute__((const)) uint3 grid_size();
__attribute__((const)) int lane_index();
__attribute__((const)) unsigned char* shared_memory();

void sync_block(const char* file, int line);
void sync_warp(unsigned mask, const char* file, int line);

// The value that lane `source` brings.
unsigned exchange(const char* operation, unsigned mask, unsigned value, int source, const char* file, int line);

}  // namespace emulator
