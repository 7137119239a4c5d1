#include "statistics.h"

#include <algorithm>

#include "memory.h"
#include "scheduler.h"

namespace emulator {

Statistics& statistics() {
  static Statistics only;
  return only;
}

void Statistics::begin_launch(int warps) {
  counts_ = Counts();
  pending_.assign(static_cast<std::size_t>(warps), {});
  instructions_.assign(static_cast<std::size_t>(warps), {});
}

static bool is_shared(const void* address) { return memory().shared_offset(address) < Memory::kMaxShared; }

void Statistics::ordinary(const void* address, std::size_t bytes, bool write, const void* site) {
  if (is_shared(address)) {
    record(write ? Kind::shared_store : Kind::shared_load, address, bytes, site);
  } else if (!memory().is_constant(address)) {
    record(write ? Kind::global_write : Kind::global_read, address, bytes, site);
  }
}

void Statistics::copy(const void* shared, const void* global, std::size_t bytes, const void* site) {
  record(Kind::copy_store, shared, 16, site);
  record(Kind::global_read, global, bytes, site);
}

void Statistics::record(Kind kind, const void* address, std::size_t bytes, const void* site) {
  const auto warp = static_cast<std::size_t>(scheduler().warp());
  // One call may be two accesses: those of a copy.
  const std::uint64_t key = reinterpret_cast<std::uint64_t>(site) << 3 | static_cast<std::uint64_t>(kind);
  Instruction& instruction = instructions_[warp][key];
  if (!instruction.pending) {
    instruction.kind = kind;
    instruction.pending = true;
    pending_[warp].push_back(&instruction);
  }
  instruction.executions[scheduler().lane()].push_back({reinterpret_cast<std::uint64_t>(address), bytes});
}

void Statistics::converge(int together) {
  const auto warp = static_cast<std::size_t>(together);
  for (Instruction* each : pending_[warp]) {
    std::size_t most = 0;
    for (const auto& lane : each->executions) most = std::max(most, lane.size());
    for (std::size_t k = 0; k < most; ++k) {
      Parts parts;
      for (int lane = 0; lane < 32; ++lane) {
        if (k < each->executions[lane].size()) parts[lane] = each->executions[lane][k];
      }
      finish(each->kind, parts);
    }
    for (auto& lane : each->executions) lane.clear();
    each->pending = false;
  }
  pending_[warp].clear();
}

void Statistics::finish(Kind kind, const Parts& parts) {
  switch (kind) {
    case Kind::shared_load:
      return count_banks(parts, counts_.shared_load_phases, counts_.shared_load_conflicts);
    case Kind::shared_store:
      return count_banks(parts, counts_.shared_store_phases, counts_.shared_store_conflicts);
    case Kind::copy_store:
      return count_banks(parts, counts_.copy_phases, counts_.copy_conflicts);
    case Kind::global_read:
      return count_sectors(parts, counts_.global_bytes_read, counts_.global_sectors_read);
    case Kind::global_write:
      return count_sectors(parts, counts_.global_bytes_written, counts_.global_sectors_written);
  }
}

// Each unit of `size` bytes that a part touches.
template <class Visit>
static void units(std::uint64_t address, std::uint64_t bytes, std::uint64_t size, Visit visit) {
  for (std::uint64_t unit = address / size; unit * size < address + bytes; ++unit) visit(unit);
}

void Statistics::count_sectors(const Parts& parts, std::uint64_t& bytes, std::uint64_t& sectors) {
  std::vector<std::uint64_t> touched;
  for (const Part& part : parts) {
    bytes += part.bytes;
    if (part.bytes > 0) units(part.address, part.bytes, 32, [&](std::uint64_t unit) { touched.push_back(unit); });
  }
  std::sort(touched.begin(), touched.end());
  sectors += static_cast<std::uint64_t>(std::unique(touched.begin(), touched.end()) - touched.begin());
}

// The longest queue of a bank: 32 banks of 4-byte words; lanes that want the same word share it.
static std::uint64_t longest_queue(std::vector<std::uint64_t>& words) {
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  std::uint64_t queue[32] = {};
  std::uint64_t longest = 0;
  for (std::uint64_t word : words) longest = std::max(longest, ++queue[word % 32]);
  return longest;
}

void Statistics::count_banks(const Parts& parts, std::uint64_t& phases, std::uint64_t& conflicts) {
  std::uint64_t widest = 0;
  for (const Part& part : parts) widest = std::max(widest, part.bytes);
  const int lanes = widest <= 4 ? 32 : widest <= 8 ? 16 : 8;
  std::vector<std::uint64_t> words;
  for (int first = 0; first < 32; first += lanes) {
    words.clear();
    for (int lane = first; lane < first + lanes; ++lane) {
      const Part& part = parts[lane];
      if (part.bytes > 0) units(part.address, part.bytes, 4, [&](std::uint64_t unit) { words.push_back(unit); });
    }
    if (words.empty()) continue;
    ++phases;
    conflicts += longest_queue(words) - 1;
  }
}

void Statistics::ldmatrix(const void* const (&rows)[32], int matrices) {
  count_rows(rows, matrices, counts_.ldmatrix_phases, counts_.ldmatrix_conflicts);
}

void Statistics::stmatrix(const void* const (&rows)[32], int matrices) {
  count_rows(rows, matrices, counts_.stmatrix_phases, counts_.stmatrix_conflicts);
}

void Statistics::count_rows(const void* const (&rows)[32], int matrices, std::uint64_t& phases,
                            std::uint64_t& conflicts) {
  Parts parts;
  for (int lane = 0; lane < 8 * matrices; ++lane) parts[lane] = {reinterpret_cast<std::uint64_t>(rows[lane]), 16};
  count_banks(parts, phases, conflicts);
}

}  // namespace emulator
