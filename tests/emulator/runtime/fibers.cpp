#include "fibers.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <new>

namespace emulator {

Fibers& fibers() {
  static Fibers all;
  return all;
}

void Fibers::prepare(int count, void (*body)()) {
  body_ = body;
  const std::size_t wanted = static_cast<std::size_t>(count) * kStackBytes;
  if (wanted > mapped_) {
    if (stacks_ != nullptr) munmap(stacks_, mapped_);
    // Only pages that a stack touches ever exist.
    void* pages = mmap(nullptr, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) throw std::bad_alloc();
    stacks_ = static_cast<char*>(pages);
    mapped_ = wanted;
    contexts_.assign(static_cast<std::size_t>(count), Context());
  }
  for (Context& each : contexts_) {
    if (each.state == State::running) each.state = State::fresh;  // abandoned in the middle of a body
  }
}

// ucontext only makes the stacks; switches are a _longjmp, which keeps the signal mask and so needs no system call.
void Fibers::resume(int fiber) {
  current_ = fiber;
  stack_ = reinterpret_cast<std::uintptr_t>(stacks_) + static_cast<std::size_t>(fiber) * kStackBytes;
  if (_setjmp(scheduler_) == 0) {
    Context& context = contexts_[static_cast<std::size_t>(fiber)];
    if (context.state == State::fresh) start();
    context.state = State::running;
    _longjmp(context.place, 1);
  }
  current_ = -1;
  stack_ = 0;
}

void Fibers::start() {
  contexts_[static_cast<std::size_t>(current_)].state = State::running;
  ucontext_t fresh;
  getcontext(&fresh);
  fresh.uc_stack.ss_sp = reinterpret_cast<void*>(stack_);
  fresh.uc_stack.ss_size = kStackBytes;
  fresh.uc_link = nullptr;
  makecontext(&fresh, &Fibers::loop, 0);
  setcontext(&fresh);
}

// A fibre never ends: after a body it waits for the next block.
void Fibers::loop() {
  for (;;) {
    fibers().body_();
    fibers().contexts_[static_cast<std::size_t>(fibers().current_)].state = State::idle;
    fibers().suspend();
  }
}

void Fibers::suspend() {
  if (_setjmp(contexts_[static_cast<std::size_t>(current_)].place) == 0) _longjmp(scheduler_, 1);
}

void Fibers::abandon() { _longjmp(scheduler_, 1); }

}  // namespace emulator
