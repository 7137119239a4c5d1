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

constexpr std::int64_t kNear = 1 << 20;  // a mistake of an index is seldom larger

static std::uint64_t number(const void* address) { return reinterpret_cast<std::uint64_t>(address); }

// The host replaces `@offset@` by file and line.
static std::string who(const Access& access) {
  return "thread " + std::to_string(access.thread) + " of block " + std::to_string(access.block) + " (@" +
         std::to_string(access.site) + "@)";
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

void Memory::begin_block(std::size_t shared_bytes) {
  shared_bytes_ = shared_bytes;
  shared_shadow_.reset(shared_bytes);
  std::memset(shared(), 0xA5, shared_bytes);
}

// Far from everything else, so that an index which misses it hits nothing.
unsigned char* Memory::shared() {
  static unsigned char* const bytes = [] {
    void* pages = mmap(nullptr, kMaxShared + 2 * kNear, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) throw std::bad_alloc();
    return static_cast<unsigned char*>(pages) + kNear;
  }();
  return bytes;
}

std::size_t Memory::shared_offset(const void* address) const {
  return static_cast<std::size_t>(number(address) - number(memory().shared()));
}

bool Memory::is_constant(const void* address) const { return address >= image_begin_ && address < image_end_; }

bool Memory::in_shared(const void* address) const { return shared_offset(address) < shared_bytes_; }

// ---- Checks ----

void Memory::touch(const void* address, std::size_t bytes, bool write, bool aligned, const void* site) {
  if (aligned) check_alignment(address, bytes, write, site);
  if (shared_offset(address) < kMaxShared) return touch_shared(address, bytes, write, site);
  if (is_constant(address) && !write) return;
  touch_global(address, bytes, write, site);
}

void Memory::touch_shared(const void* address, std::size_t bytes, bool write, const void* site) {
  const std::size_t offset = shared_offset(address);
  if (offset + bytes > shared_bytes_) fail_at("out of bounds", write ? "writes" : "reads", address, "", site);
  const Witness now = witness(site);
  const Finding finding =
      write ? shared_shadow_.write(offset, bytes, now) : shared_shadow_.read(offset, bytes, now, true);
  judge(finding, shared(), write, site);
}

void Memory::touch_global(const void* address, std::size_t bytes, bool write, const void* site) {
  const Range* range = range_at(number(address));
  if (range == nullptr || number(address) + bytes > range->base + range->bytes) {
    fail_at("out of bounds", write ? "writes" : "reads", address, "", site);
  }
  Buffer& buffer = buffers_[range->buffer];
  if (!buffer.writable) {
    if (write) fail_at("read-only", "writes", address, "", site);
    return;
  }
  const std::size_t offset = number(address) - range->base + range->offset;
  const Witness now = witness(site);
  const Finding finding =
      write ? buffer.shadow.write(offset, bytes, now) : buffer.shadow.read(offset, bytes, now, false);
  judge(finding, reinterpret_cast<const void*>(range->base - range->offset), write, site);
}

void Memory::read_shared(const void* address, std::size_t bytes, const void* site) {
  check_alignment(address, bytes, false, site);
  if (!in_shared(address)) fail_at("out of bounds", "wants shared memory and reads", address, "", site);
  touch_shared(address, bytes, false, site);
}

void Memory::read_global(const void* address, std::size_t bytes, std::size_t alignment, const void* site) {
  check_alignment(address, alignment, false, site);
  if (bytes > 0) touch_global(address, bytes, false, site);
}

void Memory::launch_copy(void* address, std::size_t bytes, const void* site) {
  check_alignment(address, bytes, true, site);
  if (!in_shared(address) || shared_offset(address) + bytes > shared_bytes_) {
    fail_at("out of bounds", "wants shared memory and writes", address, "", site);
  }
  judge(shared_shadow_.launch(shared_offset(address), bytes, witness(site)), shared(), true, site);
}

void Memory::land_copy(void* address, std::size_t bytes) {
  shared_shadow_.land(shared_offset(address), bytes, witness(nullptr));
}

void Memory::check_alignment(const void* address, std::size_t alignment, bool write, const void* site) const {
  if (number(address) % alignment == 0) return;
  const std::string verb = std::string(write ? "writes " : "reads ") + std::to_string(alignment) + " bytes at";
  fail_at("misaligned", verb, address, "", site);
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
  Scheduler& block = scheduler();
  const int thread = block.thread();
  const std::uint32_t* known = block.clocks().known_to(thread);
  // A call's offset in the shared object is what addr2line takes.
  const auto offset = static_cast<std::uint32_t>(number(site) - number(image_begin_) - 1);
  return {{known[thread], block.block(), offset, static_cast<std::uint16_t>(thread)}, known};
}

// ---- What to say ----

void Memory::judge(const Finding& finding, const void* memory_start, bool write, const void* site) const {
  if (finding.verdict == Verdict::fine) return;
  const void* address = static_cast<const char*>(memory_start) + finding.offset;
  const std::string verb = write ? "overwrites" : "reads";
  const std::string earlier = who(finding.earlier);
  switch (finding.verdict) {
    case Verdict::fine:
      return;
    case Verdict::races_with_write:
      fail_at("race", verb, address, ", unordered with the write by " + earlier, site);
    case Verdict::races_with_read:
      fail_at("race", verb, address, ", unordered with the read by " + earlier, site);
    case Verdict::unwritten:
      fail_at("uninitialized", verb, address, ", which nobody wrote", site);
    case Verdict::in_flight:
      fail_at("async in flight", verb, address, " while the copy by " + earlier + " is under way", site);
  }
}

void Memory::fail_at(const char* kind, const std::string& verb, const void* address, const std::string& why,
                     const void* site) const {
  fail(kind, who(witness(site).now) + " " + verb + " " + name_of(address) + why);
}

// The memory an address lies in or near.
std::string Memory::name_of(const void* address) const {
  const std::int64_t offset = static_cast<std::int64_t>(number(address) - number(memory().shared()));
  if (offset >= -kNear && offset < static_cast<std::int64_t>(kMaxShared) + kNear) {
    return "byte " + std::to_string(offset) + " of the " + std::to_string(shared_bytes_) + " of shared memory";
  }
  const Range* nearest = nullptr;
  std::int64_t distance = kNear;
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
