#include "fault.h"

#include <utility>

#include "fibers.h"

namespace emulator {

static Fault first;

const Fault& fault() { return first; }

void forget_fault() { first = Fault(); }

void note_fault(const char* kind, std::string message) {
  if (!first.raised) first = Fault{true, kind, std::move(message)};
}

void fail(const char* kind, std::string message) {
  note_fault(kind, std::move(message));
  fibers().abandon();
}

}  // namespace emulator
