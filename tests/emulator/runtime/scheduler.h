// The running cluster: its threads, what each of them waits for, and who runs next. Most launches have clusters of one
// block.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "clocks.h"
#include "random.h"

namespace emulator {

constexpr int kWarp = 32;
constexpr int kMaxThreads = 1024;  // of a block
constexpr int kMaxCluster = 8;     // blocks

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
  // The next cluster, of which nobody has run.
  void begin(std::uint32_t cluster, int blocks, int threads);

  // Runs it to its end. `body` is what each thread does. False if a fault ended it.
  bool run(void (*body)(), Random& random);

  // ---- For the running thread ----

  // Its number in the cluster, where every block begins at a multiple of 32: its place in clocks and lists.
  int actor() const;
  int rank() const { return rank_; }  // of its block in the cluster
  int thread() const { return thread_of(actor()); }
  int warp() const { return actor() / kWarp; }  // in the cluster
  int lane() const { return actor() % kWarp; }
  std::uint32_t block() const { return block_of(actor()); }

  // Waits for the lanes in `mask` to come to the same place; the last one does `act` for all, then all go on.
  // Nothing is ordered by this alone.
  void meet(const Place& place, std::uint32_t mask, void* arguments, void (*act)(Arguments, std::uint32_t mask));

  // Waits for all threads of the block; what they did before happens before what they do after.
  void barrier(const Place& place);

  // Waits until `wake` names this thread: what a barrier in memory is built of.
  void wait(const Place& place);
  void wake(int actor);

  Clocks& clocks() { return clocks_; }

  // Hardware that works for the cluster beside its threads; its place in clocks.
  int add_engine(std::string name);

  // Called at every access: a loop that waits for nothing would keep the emulator for ever.
  void count_access() {
    if (++accesses_ > kMaxAccesses) fail_endless();
  }

  // ---- The cluster ----
  std::uint32_t cluster() const { return cluster_; }
  int blocks() const { return blocks_; }
  int threads() const { return threads_; }  // of a block
  int actors() const { return blocks_ * stride_; }
  int actor_of(int rank, int thread) const { return rank * stride_ + thread; }
  int rank_of(int actor) const { return actor / stride_; }
  int thread_of(int actor) const { return actor % stride_; }
  std::uint32_t block_of(int actor) const { return block_at(rank_of(actor)); }
  std::uint32_t block_at(int rank) const {
    return cluster_ * static_cast<std::uint32_t>(blocks_) + static_cast<std::uint32_t>(rank);
  }
  bool has_exited(int rank) const { return exited_[static_cast<std::size_t>(rank)] == threads_; }
  std::vector<int> members_of(int rank) const;  // the actors that are its threads
  std::string name_of(int actor, std::uint32_t cluster) const;  // "thread 3 of block 7"; engines of this cluster only

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
  bool all_exited() const;
  Thread& mine() { return state_[static_cast<std::size_t>(actor())]; }
  [[noreturn]] void fail_endless() const;
  void note_stuck() const;
  std::string lanes_text(int warp) const;
  std::string threads_text(int rank) const;
  std::string state_of(int actor) const;

  std::uint32_t cluster_ = 0;
  int blocks_ = 0;
  int threads_ = 0;
  int stride_ = 1;
  int rank_ = 0;  // of the running thread's block
  std::uint64_t accesses_ = 0;
  void (*body_)() = nullptr;
  Random* random_ = nullptr;
  Clocks clocks_;
  std::vector<Thread> state_;
  std::vector<Warp> warp_;
  std::vector<int> able_;
  std::vector<std::string> engines_;
  std::vector<int> exited_;      // threads of each block
  std::vector<int> at_barrier_;  // threads of each block
};

Scheduler& scheduler();

}  // namespace emulator
