// What the emulator, which knows no types, is told about a compiled kernel.
#pragma once

namespace emulator {

struct Kernel {
  void (*call)(const void* argument);
  unsigned long argument_bytes;
  unsigned long shared_limit;  // bytes of shared memory that the architecture has for one block
  const char* image_begin;     // what the kernel's shared object holds in its file: code and constants
  const char* image_end;
};

}  // namespace emulator
