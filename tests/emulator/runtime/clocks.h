// Vector clocks: what each thread of a cluster knows of the others' progress.
//
// Actors are the threads, and behind them the engines: hardware that works beside the threads (a barrier's copies, a
// warpgroup's tensor cores, a thread's stores). A thread's own time grows whenever it lets others know of it; an engine
// counts what it has finished. An access at time t of actor a happened before what thread b does now exactly if b knows
// a time of a that is at least t.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

namespace emulator {

// What is known of one actor: its time, and until when its ordinary writes are fenced for the engines' eyes.
struct Known {
  std::uint32_t time = 0;
  std::uint32_t fenced = 0;
};

// What is known of all actors; of those beyond the end, nothing.
using Knowledge = std::vector<Known>;

// `first`: the first actor that is told of.
inline void learn(Knowledge& to, const Knowledge& from, int first = 0) {
  if (to.size() < from.size()) to.resize(from.size());
  // As plain words, so that the compiler makes vectors of them. Clocks stay far below 2^31.
  auto* into = reinterpret_cast<std::int32_t*>(to.data());
  const auto* news = reinterpret_cast<const std::int32_t*>(from.data());
  for (std::size_t i = 2 * static_cast<std::size_t>(first); i < 2 * from.size(); ++i) {
    into[i] = std::max(into[i], news[i]);
  }
}

class Clocks {
 public:
  void reset(int threads) {
    actors_ = threads;
    known_.resize(static_cast<std::size_t>(threads));
    for (int thread = 0; thread < threads; ++thread) {
      of(thread).assign(static_cast<std::size_t>(threads) + kEngines, Known());
      of(thread)[static_cast<std::size_t>(thread)].time = 1;
    }
  }

  // A new engine, of which nothing is known.
  int add_engine() {
    const int engine = actors_++;
    for (Knowledge& each : known_) {
      if (each.size() < static_cast<std::size_t>(actors_)) each.resize(each.size() + kEngines);
    }
    return engine;
  }

  // Valid until the next engine.
  const Knowledge& known_to(int thread) const { return known_[static_cast<std::size_t>(thread)]; }

  std::uint32_t now(int thread) const { return known_to(thread)[static_cast<std::size_t>(thread)].time; }

  // Everything the members did so far happens before everything they do from now on.
  void join(const std::vector<int>& members) {
    joined_.clear();
    for (int member : members) emulator::learn(joined_, known_to(member));
    for (int member : members) {
      std::copy(joined_.begin(), joined_.end(), of(member).begin());
      tick(member);
    }
  }

  // What the thread did so far is what others are told; what it does from now on they do not know.
  void tick(int thread) { ++of(thread)[static_cast<std::size_t>(thread)].time; }

  void learn(int thread, const Knowledge& news) { emulator::learn(of(thread), news); }

  void learn(int thread, int engine, std::uint32_t time) {
    std::uint32_t& known = of(thread)[static_cast<std::size_t>(engine)].time;
    known = std::max(known, time);
  }

  // The thread's ordinary writes so far can be seen by engines, wherever they are known.
  void fence(int thread) {
    of(thread)[static_cast<std::size_t>(thread)].fenced = now(thread);
    tick(thread);
  }

  // What every one of some threads knows.
  Knowledge common(int first, int count) const {
    Knowledge all = known_to(first);
    auto* into = reinterpret_cast<std::int32_t*>(all.data());
    for (int thread = first + 1; thread < first + count; ++thread) {
      const auto* its = reinterpret_cast<const std::int32_t*>(known_to(thread).data());
      for (std::size_t i = 0; i < 2 * all.size(); ++i) into[i] = std::min(into[i], its[i]);
    }
    return all;
  }

 private:
  static constexpr std::size_t kEngines = 32;  // room for that many, and for as many again whenever it is used up

  Knowledge& of(int thread) { return known_[static_cast<std::size_t>(thread)]; }

  int actors_ = 0;
  std::vector<Knowledge> known_;  // of each thread
  Knowledge joined_;
};

}  // namespace emulator
