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
    if (cell.in_flight) return {Verdict::in_flight, i, cell.write};
    if (must_be_written && cell.write.clock == 0) return {Verdict::unwritten, i, {}};
    if (!witness.sees(cell.write)) return {Verdict::races_with_write, i, cell.write};
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
  for (std::size_t i = offset; i < offset + bytes; ++i) cells_[i].in_flight = true;
  return {};
}

void Shadow::land(std::size_t offset, std::size_t bytes, const Witness& witness) {
  for (std::size_t i = offset; i < offset + bytes; ++i) {
    cells_[i].write.clock = witness.now.clock;  // the site stays that of the copy
    cells_[i].in_flight = false;
  }
}

Finding Shadow::check_write(std::size_t offset, std::size_t bytes, const Witness& witness) const {
  for (std::size_t i = offset; i < offset + bytes; ++i) {
    const Cell& cell = cells_[i];
    if (cell.in_flight) return {Verdict::in_flight, i, cell.write};
    if (!witness.sees(cell.write)) return {Verdict::races_with_write, i, cell.write};
    if (!witness.sees(cell.read)) return {Verdict::races_with_read, i, cell.read};
    if (cell.more_reads == 0) continue;
    for (const Access& read : lists_[cell.more_reads - 1]) {
      if (!witness.sees(read)) return {Verdict::races_with_read, i, read};
    }
  }
  return {};
}

// An earlier read that happens before this one needs no memory: a write that comes after this read comes after both.
void Shadow::note_read(Cell& cell, const Witness& witness) {
  const bool replaces = witness.sees(cell.read);
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
    if (read.thread == witness.now.thread && read.block == witness.now.block) {
      read = witness.now;
      return;
    }
  }
  reads.push_back(witness.now);
}

}  // namespace emulator
