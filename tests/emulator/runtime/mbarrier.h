// mbarrier: barriers in shared memory that count arrivals and bytes of copies.
#pragma once

namespace emulator {

void mbarrier_init(unsigned long long* barrier, unsigned arrivals);
void mbarrier_init_fence();
void mbarrier_expect_bytes(unsigned long long* barrier, unsigned bytes);
void mbarrier_arrive(unsigned long long* barrier);
void mbarrier_arrive_remote(unsigned long long* barrier, unsigned rank);
void mbarrier_wait(unsigned long long* barrier, unsigned parity, const char* file, int line);
void mbarrier_wait_cluster(unsigned long long* barrier, unsigned parity, const char* file, int line);

// ---- For engines.cpp ----
void begin_mbarriers();

}  // namespace emulator
