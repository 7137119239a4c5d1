// What cases for Hopper have more: maps of the input and of the output as rows of 128 bytes, of which all are one box.
// BOX is its size, a multiple of 1024; shared memory has three boxes and 64 bytes for barriers behind them.
#pragma once
#include "case.cuh"

#define BOX (4 * args.n)
#define BARRIERS(memory) reinterpret_cast<u64*>((memory) + 3 * BOX)
