// Where the compiler's instrumentation arrives: GCC calls these at every load and store of a kernel's file.
//
// They bear the names that -fsanitize=thread uses; its own runtime is never linked.
#include <cstddef>
#include <cstring>
#include <string>

#include "fault.h"
#include "fibers.h"
#include "memory.h"
#include "scheduler.h"
#include "statistics.h"

namespace emulator {

// A thread's stack is its registers and local arrays: nobody else can be meant.
static inline void on_access(void* address, std::size_t bytes, bool write, bool aligned, const void* site) {
  if (fibers().on_stack(address)) return;
  scheduler().count_access();
  memory().touch(address, bytes, write, aligned, site);
  statistics().ordinary(address, bytes, write, site);
}

}  // namespace emulator

#define SITE __builtin_return_address(0)
#define HOOKS(bytes)                                                                                              \
  extern "C" void __tsan_read##bytes(void* address) { emulator::on_access(address, bytes, false, true, SITE); }   \
  extern "C" void __tsan_write##bytes(void* address) { emulator::on_access(address, bytes, true, true, SITE); }   \
  extern "C" void __tsan_unaligned_read##bytes(void* address) {                                                   \
    emulator::on_access(address, bytes, false, false, SITE);                                                      \
  }                                                                                                               \
  extern "C" void __tsan_unaligned_write##bytes(void* address) {                                                  \
    emulator::on_access(address, bytes, true, false, SITE);                                                       \
  }

HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

// Sizes that no instruction has, and memcpy between types of less alignment: several accesses on a GPU.
extern "C" void __tsan_read_range(void* address, std::size_t bytes) {
  emulator::on_access(address, bytes, false, false, SITE);
}
extern "C" void __tsan_write_range(void* address, std::size_t bytes) {
  emulator::on_access(address, bytes, true, false, SITE);
}

// cuda.h sends a kernel's calls of memcpy, memmove and memset here: the C library is not instrumented.
extern "C" void* emulator_memcpy(void* to, const void* from, std::size_t bytes) {
  emulator::on_access(const_cast<void*>(from), bytes, false, false, SITE);
  emulator::on_access(to, bytes, true, false, SITE);
  return std::memcpy(to, from, bytes);
}
extern "C" void* emulator_memmove(void* to, const void* from, std::size_t bytes) {
  emulator::on_access(const_cast<void*>(from), bytes, false, false, SITE);
  emulator::on_access(to, bytes, true, false, SITE);
  return std::memmove(to, from, bytes);
}
extern "C" void* emulator_memset(void* to, int value, std::size_t bytes) {
  emulator::on_access(to, bytes, true, false, SITE);
  return std::memset(to, value, bytes);
}

extern "C" void __tsan_func_entry(void*) {
  if (!emulator::fibers().nearly_full(__builtin_frame_address(0))) return;
  emulator::fail("stack overflow", "a thread's local arrays need more than " +
                                       std::to_string(emulator::Fibers::kStackBytes - emulator::Fibers::kReserve) +
                                       " bytes");
}
extern "C" void __tsan_func_exit() {}
extern "C" void __tsan_init() {}
