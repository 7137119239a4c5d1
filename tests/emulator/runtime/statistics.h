// What a launch costs a memory system: bank conflicts of shared memory, sectors of global memory.
//
// The k-th execution of one instruction by the lanes of a warp, between two places where the warp comes together, is
// taken for one instruction of the warp.
#pragma once
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace emulator {

// A phase serves 32 lanes of up to 4 bytes, 16 of 8 or 8 of 16. Each further word of a bank in it is a conflict.
struct Counts {
  std::uint64_t shared_load_phases = 0;
  std::uint64_t shared_load_conflicts = 0;
  std::uint64_t shared_store_phases = 0;
  std::uint64_t shared_store_conflicts = 0;
  std::uint64_t copy_phases = 0;  // the shared side of cp.async
  std::uint64_t copy_conflicts = 0;
  std::uint64_t ldmatrix_phases = 0;
  std::uint64_t ldmatrix_conflicts = 0;
  std::uint64_t global_bytes_read = 0;  // as the lanes asked for them
  std::uint64_t global_sectors_read = 0;  // of 32 bytes, each once per instruction
  std::uint64_t global_bytes_written = 0;
  std::uint64_t global_sectors_written = 0;
  std::uint64_t mma = 0;  // matrix instructions of a warp
  std::uint64_t stmatrix_phases = 0;
  std::uint64_t stmatrix_conflicts = 0;
  std::uint64_t wgmma = 0;              // matrix instructions of a warpgroup
  std::uint64_t tma_bytes_read = 0;     // global bytes that lie within the tensors; a multicast reads once
  std::uint64_t tma_bytes_written = 0;  // the same of stores
};

class Statistics {
 public:
  void begin_launch(int warps);  // of a cluster

  // For the running thread.
  void ordinary(const void* address, std::size_t bytes, bool write, const void* site);
  void copy(const void* shared, const void* global, std::size_t bytes, const void* site);

  // For a whole warp.
  void ldmatrix(const void* const (&rows)[32], int matrices);
  void stmatrix(const void* const (&rows)[32], int matrices);
  void mma() { ++counts_.mma; }

  // For a warpgroup, and for the copy engine.
  void wgmma() { ++counts_.wgmma; }
  void tma_read(std::size_t bytes) { counts_.tma_bytes_read += bytes; }
  void tma_written(std::size_t bytes) { counts_.tma_bytes_written += bytes; }

  // The warp is together, or at its end: what its lanes did until now is complete.
  void converge(int warp);

  const Counts& counts() const { return counts_; }

 private:
  enum class Kind : unsigned char { shared_load, shared_store, copy_store, global_read, global_write };

  // What one lane does in one execution; of no bytes where it takes no part.
  struct Part {
    std::uint64_t address = 0;
    std::uint64_t bytes = 0;
  };
  using Parts = Part[32];

  struct Instruction {
    Kind kind;
    std::vector<Part> executions[32];  // of each lane, in order
    bool pending = false;
  };

  void record(Kind kind, const void* address, std::size_t bytes, const void* site);
  void finish(Kind kind, const Parts& parts);
  static void count_banks(const Parts& parts, std::uint64_t& phases, std::uint64_t& conflicts);
  static void count_rows(const void* const (&rows)[32], int matrices, std::uint64_t& phases,
                         std::uint64_t& conflicts);
  static void count_sectors(const Parts& parts, std::uint64_t& bytes, std::uint64_t& sectors);

  Counts counts_;
  // Of each warp of a cluster.
  std::vector<std::unordered_map<std::uint64_t, Instruction>> instructions_;
  std::vector<std::vector<Instruction*>> pending_;
};

Statistics& statistics();

}  // namespace emulator
