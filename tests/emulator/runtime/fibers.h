// One call stack for each thread of a block, and the switch between them and the scheduler.
#pragma once
#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace emulator {

class Fibers {
 public:
  static constexpr std::size_t kStackBytes = 256 << 10;
  // Room that the runtime itself needs below a kernel's deepest frame.
  static constexpr std::size_t kReserve = 64 << 10;

  // Gets `count` fibres ready to run `body` from its beginning, on the stacks of earlier ones.
  void prepare(int count, void (*body)());

  // From the scheduler: runs a fibre until it suspends, ends or is abandoned.
  void resume(int fiber);

  // From a fibre: back to the scheduler; returns when resumed.
  void suspend();

  // From a fibre: back to the scheduler for good; nothing on its stack is destroyed.
  [[noreturn]] void abandon();

  int current() const { return current_; }

  bool on_stack(const void* address) const {
    return reinterpret_cast<std::uintptr_t>(address) - stack_ < kStackBytes;
  }

  bool nearly_full(const void* frame) const { return reinterpret_cast<std::uintptr_t>(frame) - stack_ < kReserve; }

 private:
  enum class State : unsigned char { fresh, idle, running };

  static void loop();
  void start();

  int current_ = -1;
  std::uintptr_t stack_ = 0;  // the lowest address of the running fibre's stack
  void (*body_)() = nullptr;
  std::jmp_buf scheduler_;
  char* stacks_ = nullptr;
  std::size_t mapped_ = 0;
  struct Context {
    std::jmp_buf place;
    State state = State::fresh;
  };
  std::vector<Context> contexts_;
};

Fibers& fibers();

}  // namespace emulator
