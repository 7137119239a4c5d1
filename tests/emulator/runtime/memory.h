// Which memory an address belongs to, and whether it may be touched there: the judge of every load and store.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernel.h"
#include "shadow.h"

namespace emulator {

// A run of bytes that is all of a tensor, or one row of it where rows have gaps between them.
struct Range {
  std::uint64_t base;
  std::uint64_t bytes;
  std::uint64_t buffer;
  std::uint64_t offset;  // from the tensor's first byte
};

class Memory {
 public:
  static constexpr std::size_t kMaxShared = 227 << 10;  // of any architecture
  static constexpr std::size_t kNear = 1 << 20;         // a mistake of an index is seldom larger

  // ---- For the launch ----
  void begin_launch(const Kernel& kernel, const Range* ranges, std::size_t count, const unsigned char* writable,
                    std::size_t buffers);
  void begin_cluster(int blocks, std::size_t shared_bytes);

  // ---- For the running thread; a fault leaves it ----

  // An ordinary load or store. `site` is a return address in the kernel's code.
  void touch(const void* address, std::size_t bytes, bool write, bool aligned, const void* site);

  // Instructions that name their memory.
  void read_shared(const void* address, std::size_t bytes, const void* site);
  void write_shared(void* address, std::size_t bytes, const void* site);
  void read_global(const void* address, std::size_t bytes, std::size_t alignment, const void* site);

  // A copy into shared memory: between the two calls nobody may look.
  void launch_copy(void* address, std::size_t bytes, const void* site);
  void land_copy(void* address, std::size_t bytes);

  // The place of an operand in the block's shared memory; a fault if it is not there.
  std::size_t place_in_shared(const void* address, std::size_t bytes, std::size_t alignment, bool write,
                              const void* site) const;

  // From now on an mbarrier, and no place for data.
  void make_barrier(void* address, std::size_t bytes, const void* site);

  // ---- For engines, started by the running thread: `witness` says on whose behalf ----
  Witness witness(const void* site) const;
  Witness engine(int actor, std::uint32_t clock, const Knowledge& known, const void* site) const;
  void read_operand(std::size_t offset, std::size_t bytes, const Witness& witness);
  void write_global(void* address, std::size_t bytes, const Witness& witness);

  // A copy into the shared memory of a block of the cluster: between the two calls nobody may look.
  void launch_load(int rank, std::size_t offset, std::size_t bytes, const Witness& witness);
  void land_load(int rank, std::size_t offset, std::size_t bytes, const Access& landed);

  // ---- Where things are ----
  unsigned char* shared(int rank) const { return shared_ + static_cast<std::size_t>(rank) * kStride; }
  std::size_t shared_bytes() const { return shared_bytes_; }
  std::size_t shared_offset(const void* address) const;  // in the block of the running thread
  bool is_constant(const void* address) const;  // a table in the kernel's own file

 private:
  struct Buffer {
    bool writable = false;
    Shadow shadow;  // only of a writable one: nothing can race in the others
  };

  static constexpr std::size_t kStride = kMaxShared + 2 * kNear;  // from a block's shared memory to the next one's

  bool in_shared(const void* address) const;
  Shadow& own_shadow() { return shared_shadows_[static_cast<std::size_t>(own_rank())]; }
  static int own_rank();
  void touch_shared(const void* address, std::size_t bytes, bool write, const void* site);
  void touch_global(const void* address, std::size_t bytes, bool write, const Witness& witness);
  void check_alignment(const void* address, std::size_t alignment, bool write, const void* site) const;
  const Range* range_at(std::uint64_t address) const;
  void judge(const Finding& finding, const void* memory_start, bool write, const Witness& witness) const;
  [[noreturn]] void fail_at(const char* kind, const std::string& verb, const void* address, const std::string& why,
                            const Access& whose) const;
  std::string name_of(const void* address) const;
  std::uint32_t site_number(const void* site) const;

  const char* image_begin_ = nullptr;
  const char* image_end_ = nullptr;
  unsigned char* shared_ = nullptr;  // of the cluster's first block
  std::size_t shared_bytes_ = 0;
  std::vector<Shadow> shared_shadows_;  // of each block of the cluster
  std::vector<Range> ranges_;  // sorted by address
  mutable std::size_t last_ = 0;
  std::vector<Buffer> buffers_;
};

Memory& memory();

// "thread 3 of block 7 (kernel.cu:12)", or the engine that it was.
std::string name_of_access(const Access& access);

}  // namespace emulator
