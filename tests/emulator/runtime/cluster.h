// Clusters: blocks that run at one time and reach each other's shared memory.
#pragma once
#include "shadow.h"

namespace emulator {

__attribute__((const)) unsigned cluster_rank();
void cluster_sync(const char* file, int line);

// The running thread reaches into the block `rank` of its cluster; a fault if there is none, or not any more.
void visit(unsigned rank, const void* site);

// As `visit`, on behalf of a copy that lands as `landed`.
void note_visit(int rank, const Access& landed);

// ---- For engines.cpp ----
void begin_cluster();

// Who has exited keeps nobody waiting.
void end_cluster_of_thread();

// Nobody may reach into a block that ends, whose memory may be another's by then: it has to know of every visit.
void end_visits_of_block();

}  // namespace emulator
