// cp.async: copies into shared memory that are under way until their thread waits for them.
#pragma once

namespace emulator {

void cp_async_16(void* shared, const void* global, unsigned bytes);
void cp_async_commit();
void cp_async_wait(int groups_left);

}  // namespace emulator
