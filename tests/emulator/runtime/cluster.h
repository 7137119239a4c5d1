// Clusters: blocks that run at one time and reach each other's shared memory.
#pragma once

namespace emulator {

struct Access;

__attribute__((const)) unsigned cluster_rank();
void cluster_sync(const char* file, int line);

// A fault where the running thread's cluster has no block `rank`, or none any more.
void check_block(unsigned rank, const void* site);

// A thread has arrived at a barrier of block `rank`, or a copy that it started has landed there. The block knows of it
// when it knows of what the barrier `counted`; of an arrival also when it knows of what the thread did.
void note_arrival(int rank, const Access& counted, const Access& whose);
void note_landing(int rank, const Access& counted, const Access& whose);

// ---- For engines.cpp ----
void begin_cluster();

// Who has exited keeps nobody waiting.
void end_cluster_of_thread();

// Nobody may reach into a block that ends, whose memory may be another's by then: it has to know of every visit.
void end_visits_of_block();

}  // namespace emulator
