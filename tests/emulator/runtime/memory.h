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

  // ---- For the launch ----
  void begin_launch(const Kernel& kernel, const Range* ranges, std::size_t count, const unsigned char* writable,
                    std::size_t buffers);
  void begin_block(std::size_t shared_bytes);

  // ---- For the running thread; a fault leaves it ----

  // An ordinary load or store. `site` is a return address in the kernel's code.
  void touch(const void* address, std::size_t bytes, bool write, bool aligned, const void* site);

  // Instructions that name their memory.
  void read_shared(const void* address, std::size_t bytes, const void* site);
  void read_global(const void* address, std::size_t bytes, std::size_t alignment, const void* site);

  // A copy into shared memory: between the two calls nobody may look.
  void launch_copy(void* address, std::size_t bytes, const void* site);
  void land_copy(void* address, std::size_t bytes);

  unsigned char* shared();
  std::size_t shared_offset(const void* address) const;
  bool is_constant(const void* address) const;  // a table in the kernel's own file

 private:
  struct Buffer {
    bool writable = false;
    Shadow shadow;  // only of a writable one: nothing can race in the others
  };

  bool in_shared(const void* address) const;
  void touch_shared(const void* address, std::size_t bytes, bool write, const void* site);
  void touch_global(const void* address, std::size_t bytes, bool write, const void* site);
  void check_alignment(const void* address, std::size_t alignment, bool write, const void* site) const;
  const Range* range_at(std::uint64_t address) const;
  void judge(const Finding& finding, const void* memory_start, bool write, const void* site) const;
  [[noreturn]] void fail_at(const char* kind, const std::string& verb, const void* address, const std::string& why,
                            const void* site) const;
  std::string name_of(const void* address) const;
  Witness witness(const void* site) const;

  const char* image_begin_ = nullptr;
  const char* image_end_ = nullptr;
  std::size_t shared_bytes_ = 0;
  Shadow shared_shadow_;
  std::vector<Range> ranges_;  // sorted by address
  mutable std::size_t last_ = 0;
  std::vector<Buffer> buffers_;
};

Memory& memory();

}  // namespace emulator
