// The first thing that goes wrong ends a launch; it is kept here as text until the launch returns.
#pragma once
#include <string>

namespace emulator {

struct Fault {
  bool raised = false;
  std::string kind;
  std::string message;
};

const Fault& fault();
void forget_fault();

// Keeps a fault unless there is one already. For the scheduler, which returns by itself.
void note_fault(const char* kind, std::string message);

// Keeps a fault and leaves the running thread for good: for everything a kernel calls.
[[noreturn]] void fail(const char* kind, std::string message);

}  // namespace emulator
