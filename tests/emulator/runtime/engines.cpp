#include "engines.h"

#include "async_copy.h"
#include "cluster.h"
#include "mbarrier.h"
#include "named_barrier.h"
#include "tma_load.h"
#include "tma_store.h"
#include "warpgroup.h"
#include "wgmma.h"

namespace emulator {

static Timing timing;

void begin_engines(Moves moves, Random random) {
  const auto another = [&] { return Timing(moves, Random(random.next())); };
  timing = another();
  begin_copies(another());
  begin_loads(another());
  begin_stores(another());
  begin_wgmma(another());
  begin_warpgroups();
  begin_mbarriers();
  begin_named_barriers();
  begin_cluster();
}

void end_thread() {
  end_copies_of_thread();
  end_stores_of_thread();
  end_wgmma_of_thread();
  end_cluster_of_thread();
}

void end_block() {
  end_loads_of_block();
  end_visits_of_block();
}

void work_meanwhile() {
  if (loads_wait() && timing.meanwhile()) land_one();
  if (stores_wait() && timing.meanwhile()) store_one();
}

// Stores are as late as they can be when their thread waits for them.
bool work_at_last() {
  if (!loads_wait()) return false;
  land_one();
  return true;
}

}  // namespace emulator
