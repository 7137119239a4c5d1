// Ends a kernel's translation unit: how the emulator calls the kernel.
//
// KERNEL is the kernel's name, SHARED_LIMIT the architecture's shared memory for one block.
#pragma once
#include "runtime/kernel.h"

// The linker's names for the ends of what a shared object's file holds.
extern "C" const char __ehdr_start[] __attribute__((visibility("hidden")));
extern "C" const char _edata[] __attribute__((visibility("hidden")));

namespace emulator {

template <class Argument>
constexpr unsigned long argument_bytes(void (*)(Argument)) {
  return sizeof(Argument);
}

// The argument is copied onto the thread's own stack, where accesses are nobody's business.
template <class Argument>
__attribute__((no_sanitize("thread"))) void call(void (*kernel)(Argument), const void* argument) {
  kernel(*static_cast<const Argument*>(argument));
}

__attribute__((no_sanitize("thread"))) static void call_kernel(const void* argument) { call(&KERNEL, argument); }

}  // namespace emulator

extern "C" {
extern const emulator::Kernel emulator_kernel;
const emulator::Kernel emulator_kernel = {&emulator::call_kernel, emulator::argument_bytes(&KERNEL), SHARED_LIMIT,
                                          __ehdr_start, _edata};
}
