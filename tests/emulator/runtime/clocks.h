// Vector clocks: what each thread of a block knows of the others' progress.
//
// A thread's own time grows whenever it lets others know of it (a barrier). An access at time t of thread a happened
// before what thread b does now exactly if b knows a time of a that is at least t.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

namespace emulator {

class Clocks {
 public:
  void reset(int threads) {
    threads_ = static_cast<std::size_t>(threads);
    known_.assign(threads_ * threads_, 0);
    for (int thread = 0; thread < threads; ++thread) row(thread)[thread] = 1;
  }

  // Times of all threads, as far as `thread` knows.
  const std::uint32_t* known_to(int thread) const { return &known_[static_cast<std::size_t>(thread) * threads_]; }

  std::uint32_t now(int thread) const { return known_to(thread)[thread]; }

  // Everything the members did so far happens before everything they do from now on.
  void join(const std::vector<int>& members) {
    joined_.assign(threads_, 0);
    for (int member : members) {
      const std::uint32_t* times = known_to(member);
      for (std::size_t i = 0; i < threads_; ++i) joined_[i] = std::max(joined_[i], times[i]);
    }
    for (int member : members) {
      std::copy(joined_.begin(), joined_.end(), row(member));
      ++row(member)[member];
    }
  }

 private:
  std::uint32_t* row(int thread) { return &known_[static_cast<std::size_t>(thread) * threads_]; }

  std::size_t threads_ = 0;
  std::vector<std::uint32_t> known_;
  std::vector<std::uint32_t> joined_;
};

}  // namespace emulator
