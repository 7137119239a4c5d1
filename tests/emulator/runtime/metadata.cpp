#include "metadata.h"

#include <string>

#include "fault.h"
#include "memory.h"

namespace emulator {

namespace {

constexpr int kNibbles = 8;  // of a word

// Of 8 bits every lane is asked, of 16 bits two of every four.
bool asked(Kind kind, int selector, int lane) { return bytes_of(kind) == 1 || lane % 4 / 2 == selector; }

unsigned nibble_of(std::uint32_t word, int nibble) { return word >> 4 * nibble & 15; }

bool in_order(unsigned nibble) { return (nibble & 3) < nibble >> 2; }

// The row that a nibble is about, and which four of its values.
int row_of(Kind kind, int lane, int nibble) {
  return lane / 4 + 8 * (bytes_of(kind) == 1 ? lane % 2 : nibble / 4);
}
int four_of(Kind kind, int lane, int nibble) {
  return bytes_of(kind) == 1 ? 8 * (lane % 4 / 2) + nibble : 4 * (lane % 2) + nibble % 4;
}

}  // namespace

void check_metadata(Kind kind, int selector, std::uint32_t word, const void* site) {
  if (!asked(kind, selector, scheduler().lane())) return;
  for (int nibble = 0; nibble < kNibbles; ++nibble) {
    const unsigned found = nibble_of(word, nibble);
    if (in_order(found)) continue;
    fail("bad argument", name_of_access(memory().witness(site).now) + " brings metadata whose nibble " +
                             std::to_string(nibble) + " is " + std::to_string(found) +
                             ": 4, 8, 9, 12, 13 and 14 are two values in order");
  }
}

void find_kept(Kind kind, int selector, const std::uint32_t* words, std::uint8_t* kept) {
  const int count = kMostKept / bytes_of(kind);
  for (int lane = 0; lane < kWarp; ++lane) {
    if (!asked(kind, selector, lane)) continue;
    for (int nibble = 0; nibble < kNibbles; ++nibble) {
      const unsigned found = nibble_of(words[lane], nibble);
      const int four = four_of(kind, lane, nibble);
      std::uint8_t* two = kept + row_of(kind, lane, nibble) * count + 2 * four;
      two[0] = static_cast<std::uint8_t>(4 * four + static_cast<int>(found & 3));
      two[1] = static_cast<std::uint8_t>(4 * four + static_cast<int>(found >> 2));
    }
  }
}

}  // namespace emulator
