// What is known of each byte of a memory: who wrote it last, who read it since, whether a copy into it is under way.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace emulator {

// One access as a byte remembers it. Clock 0: there was none.
struct Access {
  std::uint32_t clock = 0;
  std::uint32_t block = 0;
  std::uint32_t site = 0;
  std::uint16_t thread = 0;
};

// An access that happens now, with what its thread knows of the others.
struct Witness {
  Access now;
  const std::uint32_t* known;

  // Nothing orders two blocks of a grid.
  bool sees(const Access& earlier) const {
    return earlier.clock == 0 || (earlier.block == now.block && earlier.clock <= known[earlier.thread]);
  }
};

enum class Verdict { fine, races_with_write, races_with_read, unwritten, in_flight };

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

  // A write that lasts from now until `land`.
  Finding launch(std::size_t offset, std::size_t bytes, const Witness& witness);
  void land(std::size_t offset, std::size_t bytes, const Witness& witness);

 private:
  struct Cell {
    Access write;
    Access read;
    std::uint32_t more_reads = 0;  // index + 1 into lists_: reads that nothing orders with `read`
    bool in_flight = false;
  };

  Finding check_write(std::size_t offset, std::size_t bytes, const Witness& witness) const;
  void note_read(Cell& cell, const Witness& witness);

  std::vector<Cell> cells_;
  std::vector<std::vector<Access>> lists_;
};

}  // namespace emulator
