// What is known of each byte of a memory: who wrote it last, who read it since, whether a copy into it is under way.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "clocks.h"

namespace emulator {

// One access as a byte remembers it. Clock 0: there was none.
struct Access {
  std::uint32_t clock = 0;
  std::uint32_t cluster = 0;
  std::uint32_t site = 0;
  std::uint16_t actor = 0;
  bool by_engine = false;  // by another way to memory than ordinary accesses: the asynchronous proxy
};

// A clock that no thread ever knows.
constexpr std::uint32_t kNever = 0x7FFFFFFF;

// An access that happens now, with what is known where it is started.
struct Witness {
  Access now;
  const Knowledge* known;

  // Nothing orders two clusters of a grid.
  bool sees(const Access& earlier) const {
    return earlier.clock == 0 || (earlier.cluster == now.cluster && earlier.clock <= (*known)[earlier.actor].time);
  }

  // An engine sees ordinary writes only after their thread's fence.
  bool needs_fence(const Access& write) const {
    return now.by_engine && !write.by_engine && write.clock > (*known)[write.actor].fenced;
  }
};

enum class Verdict { fine, races_with_write, races_with_read, unwritten, in_flight, not_fenced, is_barrier };

struct Finding {
  Verdict verdict = Verdict::fine;
  std::size_t offset = 0;
  Access earlier;
};

class Shadow {
 public:
  void reset(std::size_t bytes);

  // `must_be_written`: the memory held nothing when the launch began.
  Finding read(std::size_t offset, std::size_t bytes, const Witness& witness, bool must_be_written);
  Finding write(std::size_t offset, std::size_t bytes, const Witness& witness);

  // A write that lasts from now until `land`, when it is taken to be `landed`; its site stays.
  Finding launch(std::size_t offset, std::size_t bytes, const Witness& witness);
  void land(std::size_t offset, std::size_t bytes, const Access& landed);

  // From now on no place for data.
  void make_barrier(std::size_t offset, std::size_t bytes);

 private:
  enum class State : unsigned char { settled, in_flight, barrier };

  struct Cell {
    Access write;
    Access read;
    std::uint32_t more_reads = 0;  // index + 1 into lists_: reads that nothing orders with `read`
    State state = State::settled;
  };

  static Finding unsettled(const Cell& cell, std::size_t offset);
  Finding check_write(std::size_t offset, std::size_t bytes, const Witness& witness) const;
  void note_read(Cell& cell, const Witness& witness);

  std::vector<Cell> cells_;
  std::vector<std::vector<Access>> lists_;
};

}  // namespace emulator
