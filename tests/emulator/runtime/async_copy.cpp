#include "async_copy.h"

#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "engines.h"
#include "fault.h"
#include "memory.h"
#include "scheduler.h"
#include "statistics.h"

namespace emulator {

namespace {

constexpr unsigned kBytes = 16;

struct Copy {
  unsigned char* to;
  const unsigned char* from;
  unsigned bytes;
  std::uint64_t group;
  bool moved;
};

struct ThreadCopies {
  std::deque<Copy> under_way;  // oldest first
  std::uint64_t committed = 0;
};

Timing timing;
std::vector<ThreadCopies> copies_of;

ThreadCopies& own_copies() { return copies_of[static_cast<std::size_t>(scheduler().actor())]; }

void move(Copy& copy) {
  std::memcpy(copy.to, copy.from, copy.bytes);
  std::memset(copy.to + copy.bytes, 0, kBytes - copy.bytes);
  copy.moved = true;
}

void land_oldest(ThreadCopies& mine) {
  Copy& copy = mine.under_way.front();
  if (!copy.moved) move(copy);
  memory().land_copy(copy.to, kBytes);
  mine.under_way.pop_front();
}

}  // namespace

void begin_copies(const Timing& chosen) {
  timing = chosen;
  copies_of.assign(static_cast<std::size_t>(scheduler().actors()), ThreadCopies());
}

void end_copies_of_thread() {
  ThreadCopies& mine = own_copies();
  while (!mine.under_way.empty()) land_oldest(mine);
}

void cp_async_16(void* shared, const void* global, unsigned bytes) {
  const void* site = __builtin_return_address(0);
  if (bytes > kBytes) {
    fail("bad argument", "cp_async_16 of " + std::to_string(bytes) + " bytes: at most 16 can be copied");
  }
  memory().read_global(global, bytes, kBytes, site);
  memory().launch_copy(shared, kBytes, site);
  statistics().copy(shared, global, bytes, site);
  ThreadCopies& mine = own_copies();
  mine.under_way.push_back({static_cast<unsigned char*>(shared), static_cast<const unsigned char*>(global), bytes,
                            mine.committed, false});
  if (timing.now()) move(mine.under_way.back());
}

void cp_async_commit() { ++own_copies().committed; }

void cp_async_wait(int groups_left) {
  ThreadCopies& mine = own_copies();
  const auto done = [&](const Copy& copy) {
    return copy.group + static_cast<std::uint64_t>(groups_left) < mine.committed;
  };
  while (!mine.under_way.empty() && done(mine.under_way.front())) land_oldest(mine);
}

}  // namespace emulator
