#include "shadow.h"

#include <algorithm>

namespace emulator {

void Shadow::reset(std::size_t bytes) {
  cells_.assign(bytes, Cell());
  lists_.clear();
}

Finding Shadow::read(std::size_t offset, std::size_t bytes, const Witness& witness, bool must_be_written) {
  for (std::size_t i = offset; i < offset + bytes; ++i) {
    Cell& cell = cells_[i];
    if (cell.state != State::settled) return unsettled(cell, i);
    if (must_be_written && cell.write.clock == 0) return {Verdict::unwritten, i, {}};
    if (!witness.sees(cell.write)) return {Verdict::races_with_write, i, cell.write};
    if (witness.needs_fence(cell.write)) return {Verdict::not_fenced, i, cell.write};
    note_read(cell, witness);
  }
  return {};
}

Finding Shadow::write(std::size_t offset, std::size_t bytes, const Witness& witness) {
  const Finding finding = check_write(offset, bytes, witness);
  if (finding.verdict != Verdict::fine) return finding;
  for (std::size_t i = offset; i < offset + bytes; ++i) {
    Cell& cell = cells_[i];
    cell.write = witness.now;
    cell.read = Access();
    if (cell.more_reads != 0) lists_[cell.more_reads - 1].clear();
  }
  return {};
}

Finding Shadow::launch(std::size_t offset, std::size_t bytes, const Witness& witness) {
  const Finding finding = write(offset, bytes, witness);
  if (finding.verdict != Verdict::fine) return finding;
  for (std::size_t i = offset; i < offset + bytes; ++i) cells_[i].state = State::in_flight;
  return {};
}

void Shadow::land(std::size_t offset, std::size_t bytes, const Access& landed) {
  for (std::size_t i = offset; i < offset + bytes; ++i) {
    const std::uint32_t site = cells_[i].write.site;
    cells_[i].write = landed;
    cells_[i].write.site = site;
    cells_[i].state = State::settled;
  }
}

void Shadow::make_barrier(std::size_t offset, std::size_t bytes) {
  for (std::size_t i = offset; i < offset + bytes; ++i) cells_[i].state = State::barrier;
}

Finding Shadow::unsettled(const Cell& cell, std::size_t offset) {
  return {cell.state == State::barrier ? Verdict::is_barrier : Verdict::in_flight, offset, cell.write};
}

Finding Shadow::check_write(std::size_t offset, std::size_t bytes, const Witness& witness) const {
  for (std::size_t i = offset; i < offset + bytes; ++i) {
    const Cell& cell = cells_[i];
    if (cell.state != State::settled) return unsettled(cell, i);
    if (!witness.sees(cell.write)) return {Verdict::races_with_write, i, cell.write};
    if (witness.needs_fence(cell.write)) return {Verdict::not_fenced, i, cell.write};
    if (!witness.sees(cell.read)) return {Verdict::races_with_read, i, cell.read};
    if (cell.more_reads == 0) continue;
    for (const Access& read : lists_[cell.more_reads - 1]) {
      if (!witness.sees(read)) return {Verdict::races_with_read, i, read};
    }
  }
  return {};
}

static bool same_actor(const Access& a, const Access& b) { return a.actor == b.actor && a.cluster == b.cluster; }

// An earlier read that happens before this one needs no memory: a write that comes after this read comes after both.
// Of one actor's reads the later one counts: an engine finishes them in order.
void Shadow::note_read(Cell& cell, const Witness& witness) {
  const bool replaces = same_actor(cell.read, witness.now) || witness.sees(cell.read);
  if (replaces) cell.read = witness.now;
  if (cell.more_reads == 0) {
    if (replaces) return;
    lists_.emplace_back();
    cell.more_reads = static_cast<std::uint32_t>(lists_.size());
  }
  std::vector<Access>& reads = lists_[cell.more_reads - 1];
  if (replaces) {
    const auto ordered = [&](const Access& read) { return witness.sees(read); };
    reads.erase(std::remove_if(reads.begin(), reads.end(), ordered), reads.end());
    return;
  }
  for (Access& read : reads) {
    if (same_actor(read, witness.now)) {
      read = witness.now;
      return;
    }
  }
  reads.push_back(witness.now);
}

}  // namespace emulator
