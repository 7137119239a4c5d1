// The launch's side of async_copy.h.
#pragma once
#include "random.h"

namespace emulator {

// When the bytes of a copy move: the two legal extremes, or one of them at random for each copy.
enum class Moves : int { at_random, early, late };

void begin_copies(Moves moves, Random random);

// A thread that exits waits for nothing: its copies land, and nobody may see them.
void finish_copies();

}  // namespace emulator
