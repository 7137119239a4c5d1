// The running block: its threads, what each of them waits for, and who runs next.
#pragma once
#include <cstdint>
#include <string>

#include "clocks.h"
#include "random.h"

namespace emulator {

constexpr int kWarp = 32;
constexpr int kMaxThreads = 1024;

// Where a kernel calls an operation that waits for others.
struct Place {
  const char* operation;
  const char* file;
  int line;

  bool operator==(const Place& other) const;
  std::string text() const;
};

// What a lane brings to an operation of its warp.
using Arguments = void* const (&)[kWarp];

class Scheduler {
 public:
  // Runs one block to its end. `body` is what each thread does. False if a fault ended it.
  bool run(std::uint32_t block, int threads, void (*body)(), Random& random);

  // ---- For the running thread ----
  int thread() const;
  int warp() const { return thread() / kWarp; }
  int lane() const { return thread() % kWarp; }
  std::uint32_t block() const { return block_; }
  int threads() const { return threads_; }

  // Waits for the lanes in `mask` to come to the same place; the last one does `act` for all, then all go on.
  // Nothing is ordered by this alone.
  void meet(const Place& place, std::uint32_t mask, void* arguments, void (*act)(Arguments, std::uint32_t mask));

  // Waits for all threads of the block; what they did before happens before what they do after.
  void barrier(const Place& place);

  // Waits until `wake` names this thread: what a barrier in memory is built of.
  void wait(const Place& place);
  void wake(int thread);

  Clocks& clocks() { return clocks_; }

  // Called at every access: a loop that waits for nothing would keep the emulator for ever.
  void count_access() {
    if (++accesses_ > kMaxAccesses) fail_endless();
  }

 private:
  static constexpr std::uint64_t kMaxAccesses = 1'000'000;  // of one thread, between two waits

  enum class Waits : unsigned char { for_nothing, for_warp, for_block, for_wake };

  struct Thread {
    Place place{};
    Waits waits = Waits::for_nothing;
    bool exited = false;
    std::uint32_t mask = 0;
    void* arguments = nullptr;
  };

  struct Warp {
    std::uint32_t ready = 0;    // lanes that could run
    std::uint32_t meeting = 0;  // lanes that wait in `meet`
  };

  static void thread_main();
  void suspend(Waits waits, const Place& place);
  int pick_warp();
  void run_lanes(int warp);
  bool all_meet(int warp, std::uint32_t mask) const;
  [[noreturn]] void fail_endless() const;
  void note_stuck() const;
  std::string lanes_text(int warp) const;
  std::string threads_text() const;
  std::string state_of(int thread) const;

  std::uint32_t block_ = 0;
  int threads_ = 0;
  int warps_ = 0;
  int exited_ = 0;
  int at_barrier_ = 0;
  std::uint64_t accesses_ = 0;
  void (*body_)() = nullptr;
  Random* random_ = nullptr;
  Clocks clocks_;
  Thread state_[kMaxThreads];
  Warp warp_[kMaxThreads / kWarp];
};

Scheduler& scheduler();

}  // namespace emulator
