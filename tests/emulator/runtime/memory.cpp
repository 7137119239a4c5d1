#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "fault.h"
#include "scheduler.h"

namespace emulator {

Memory& memory() {
  static Memory only;
  return only;
}

static std::uint64_t number(const void* address) { return reinterpret_cast<std::uint64_t>(address); }

// The host replaces `@offset@` by file and line. All clusters have the same shape.
std::string name_of_access(const Access& access) {
  const std::string place = " (@" + std::to_string(access.site) + "@)";
  return scheduler().name_of(access.actor, access.cluster) + place;
}

// ---- The launch ----

void Memory::begin_launch(const Kernel& kernel, const Range* ranges, std::size_t count,
                          const unsigned char* writable, std::size_t buffers) {
  image_begin_ = kernel.image_begin;
  image_end_ = kernel.image_end;
  ranges_.assign(ranges, ranges + count);
  std::sort(ranges_.begin(), ranges_.end(), [](const Range& a, const Range& b) { return a.base < b.base; });
  last_ = 0;
  buffers_.assign(buffers, Buffer());
  std::vector<std::size_t> spans(buffers, 0);
  for (const Range& each : ranges_) {
    spans[each.buffer] = std::max<std::size_t>(spans[each.buffer], each.offset + each.bytes);
  }
  for (std::size_t i = 0; i < buffers; ++i) {
    buffers_[i].writable = writable[i] != 0;
    if (buffers_[i].writable) buffers_[i].shadow.reset(spans[i]);
  }
}

// Every block's memory is far from everything else, so that an index which misses it hits nothing.
void Memory::begin_cluster(int blocks, std::size_t shared_bytes) {
  if (shared_ == nullptr) {
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* pages = mmap(nullptr, kMaxCluster * kStride, PROT_READ | PROT_WRITE, kFlags, -1, 0);
    if (pages == MAP_FAILED) throw std::bad_alloc();
    shared_ = static_cast<unsigned char*>(pages) + kNear;
  }
  shared_bytes_ = shared_bytes;
  shared_shadows_.resize(static_cast<std::size_t>(blocks));
  for (int rank = 0; rank < blocks; ++rank) {
    shared_shadows_[static_cast<std::size_t>(rank)].reset(shared_bytes);
    std::memset(shared(rank), 0xA5, shared_bytes);
  }
}

int Memory::own_rank() { return scheduler().rank(); }

std::size_t Memory::shared_offset(const void* address) const {
  return static_cast<std::size_t>(number(address) - number(shared(own_rank())));
}

bool Memory::is_constant(const void* address) const { return address >= image_begin_ && address < image_end_; }

bool Memory::in_shared(const void* address) const { return shared_offset(address) < shared_bytes_; }

// ---- Checks ----

void Memory::touch(const void* address, std::size_t bytes, bool write, bool aligned, const void* site) {
  if (aligned) check_alignment(address, bytes, write, site);
  if (shared_offset(address) < kMaxShared) return touch_shared(address, bytes, write, site);
  if (is_constant(address) && !write) return;
  touch_global(address, bytes, write, witness(site));
}

void Memory::touch_shared(const void* address, std::size_t bytes, bool write, const void* site) {
  const std::size_t offset = shared_offset(address);
  const Witness now = witness(site);
  if (offset + bytes > shared_bytes_) fail_at("out of bounds", write ? "writes" : "reads", address, "", now.now);
  const Finding finding = write ? own_shadow().write(offset, bytes, now) : own_shadow().read(offset, bytes, now, true);
  judge(finding, shared(own_rank()), write, now);
}

void Memory::touch_global(const void* address, std::size_t bytes, bool write, const Witness& now) {
  const Range* range = range_at(number(address));
  if (range == nullptr || number(address) + bytes > range->base + range->bytes) {
    fail_at("out of bounds", write ? "writes" : "reads", address, "", now.now);
  }
  Buffer& buffer = buffers_[range->buffer];
  if (!buffer.writable) {
    if (write) fail_at("read-only", "writes", address, "", now.now);
    return;
  }
  const std::size_t offset = number(address) - range->base + range->offset;
  const Finding finding =
      write ? buffer.shadow.write(offset, bytes, now) : buffer.shadow.read(offset, bytes, now, false);
  judge(finding, reinterpret_cast<const void*>(range->base - range->offset), write, now);
}

void Memory::read_shared(const void* address, std::size_t bytes, const void* site) {
  place_in_shared(address, bytes, bytes, false, site);
  touch_shared(address, bytes, false, site);
}

void Memory::write_shared(void* address, std::size_t bytes, const void* site) {
  place_in_shared(address, bytes, bytes, true, site);
  touch_shared(address, bytes, true, site);
}

void Memory::read_global(const void* address, std::size_t bytes, std::size_t alignment, const void* site) {
  check_alignment(address, alignment, false, site);
  if (bytes > 0) touch_global(address, bytes, false, witness(site));
}

void Memory::launch_copy(void* address, std::size_t bytes, const void* site) {
  const std::size_t offset = place_in_shared(address, bytes, bytes, true, site);
  const Witness now = witness(site);
  judge(own_shadow().launch(offset, bytes, now), shared(own_rank()), true, now);
}

void Memory::land_copy(void* address, std::size_t bytes) {
  own_shadow().land(shared_offset(address), bytes, witness(nullptr).now);
}

std::size_t Memory::place_in_shared(const void* address, std::size_t bytes, std::size_t alignment, bool write,
                                    const void* site) const {
  check_alignment(address, alignment, write, site);
  const std::size_t offset = shared_offset(address);
  if (!in_shared(address) || offset + bytes > shared_bytes_) {
    const std::string verb = std::string("wants shared memory and ") + (write ? "writes" : "reads");
    fail_at("out of bounds", verb, address, "", witness(site).now);
  }
  return offset;
}

void Memory::make_barrier(void* address, std::size_t bytes, const void* site) {
  write_shared(address, bytes, site);
  own_shadow().make_barrier(shared_offset(address), bytes);
}

// ---- Engines ----

void Memory::read_operand(std::size_t offset, std::size_t bytes, const Witness& witness) {
  const unsigned char* start = shared(own_rank());
  if (offset >= shared_bytes_ || offset + bytes > shared_bytes_) {
    fail_at("out of bounds", "reads", start + offset, "", witness.now);
  }
  judge(own_shadow().read(offset, bytes, witness, true), start, false, witness);
}

void Memory::write_global(void* address, std::size_t bytes, const Witness& witness) {
  touch_global(address, bytes, true, witness);
}

void Memory::launch_load(int rank, std::size_t offset, std::size_t bytes, const Witness& witness) {
  judge(shared_shadows_[static_cast<std::size_t>(rank)].launch(offset, bytes, witness), shared(rank), true, witness);
}

void Memory::land_load(int rank, std::size_t offset, std::size_t bytes, const Access& landed) {
  shared_shadows_[static_cast<std::size_t>(rank)].land(offset, bytes, landed);
}

void Memory::check_alignment(const void* address, std::size_t alignment, bool write, const void* site) const {
  if (number(address) % alignment == 0) return;
  const std::string verb = std::string(write ? "writes " : "reads ") + std::to_string(alignment) + " bytes at";
  fail_at("misaligned", verb, address, "", witness(site).now);
}

const Range* Memory::range_at(std::uint64_t address) const {
  const auto holds = [&](const Range& range) { return address - range.base < range.bytes; };
  if (last_ < ranges_.size() && holds(ranges_[last_])) return &ranges_[last_];
  const auto after = std::upper_bound(ranges_.begin(), ranges_.end(), address,
                                      [](std::uint64_t wanted, const Range& range) { return wanted < range.base; });
  if (after == ranges_.begin() || !holds(*(after - 1))) return nullptr;
  last_ = static_cast<std::size_t>(after - 1 - ranges_.begin());
  return &ranges_[last_];
}

Witness Memory::witness(const void* site) const {
  Scheduler& all = scheduler();
  const int actor = all.actor();
  return {{all.clocks().now(actor), all.cluster(), site_number(site), static_cast<std::uint16_t>(actor)},
          &all.clocks().known_to(actor)};
}

Witness Memory::engine(int actor, std::uint32_t clock, const Knowledge& known, const void* site) const {
  return {{clock, scheduler().cluster(), site_number(site), static_cast<std::uint16_t>(actor), true}, &known};
}

// A call's offset in the shared object is what addr2line takes.
std::uint32_t Memory::site_number(const void* site) const {
  return static_cast<std::uint32_t>(number(site) - number(image_begin_) - 1);
}

// ---- What to say ----

void Memory::judge(const Finding& finding, const void* memory_start, bool write, const Witness& witness) const {
  if (finding.verdict == Verdict::fine) return;
  const void* address = static_cast<const char*>(memory_start) + finding.offset;
  const std::string verb = write ? "overwrites" : "reads";
  const std::string earlier = name_of_access(finding.earlier);
  const auto fail_with = [&](const char* kind, const std::string& why) {
    fail_at(kind, verb, address, why, witness.now);
  };
  switch (finding.verdict) {
    case Verdict::fine:
      return;
    case Verdict::races_with_write:
      return fail_with("race", ", unordered with the write by " + earlier);
    case Verdict::races_with_read:
      return fail_with("race", ", unordered with the read by " + earlier);
    case Verdict::unwritten:
      return fail_with("uninitialized", ", which nobody wrote");
    case Verdict::in_flight:
      return fail_with("async in flight", " while the copy by " + earlier + " is under way");
    case Verdict::not_fenced:
      return fail_with("missing fence", ", without a fence_async after the write by " + earlier);
    case Verdict::is_barrier:
      return fail_with("mbarrier", ", which is an mbarrier since " + earlier);
  }
}

void Memory::fail_at(const char* kind, const std::string& verb, const void* address, const std::string& why,
                     const Access& whose) const {
  fail(kind, name_of_access(whose) + " " + verb + " " + name_of(address) + why);
}

// The memory an address lies in or near.
std::string Memory::name_of(const void* address) const {
  for (int rank = 0; rank < scheduler().blocks(); ++rank) {
    if (number(address) - number(shared(rank) - kNear) >= kStride) continue;
    const std::int64_t offset = static_cast<std::int64_t>(number(address) - number(shared(rank)));
    const std::string whose = rank == own_rank() ? "" : " of block " + std::to_string(scheduler().block_at(rank));
    return "byte " + std::to_string(offset) + " of the " + std::to_string(shared_bytes_) + " of shared memory" + whose;
  }
  const Range* nearest = nullptr;
  std::int64_t distance = static_cast<std::int64_t>(kNear);
  for (const Range& range : ranges_) {
    const std::int64_t ahead = static_cast<std::int64_t>(range.base - number(address));
    const std::int64_t behind = static_cast<std::int64_t>(number(address) - (range.base + range.bytes) + 1);
    const std::int64_t off = std::max<std::int64_t>({ahead, behind, 0});
    if (off < distance) {
      distance = off;
      nearest = &range;
    }
  }
  if (nearest == nullptr) return "address " + std::to_string(number(address)) + ", far from any buffer";
  const std::int64_t at = static_cast<std::int64_t>(number(address) - nearest->base + nearest->offset);
  return "byte " + std::to_string(at) + " of buffer " + std::to_string(nearest->buffer) + " (its bytes " +
         std::to_string(nearest->offset) + " to " + std::to_string(nearest->offset + nearest->bytes - 1) +
         " are the nearest)";
}

}  // namespace emulator
