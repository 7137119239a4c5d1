// Metadata of mma.sp that is no two values in order. WHAT: 0 the same value twice, 1 out of order, 2 and 3 in a lane
// that selector 0 or 1 asks; lanes that are not asked may bring anything.
#include "case.cuh"

CASE(metadata) {
  const u32 lane = threadIdx.x;
  const u32 a[4] = {lane, 2 * lane, 3, 4}, b[4] = {5, lane, 7, 8};
  const u32 legal = 0xedc98444;
  if (WHAT < 2) {
    u32 word = legal;
    if (!CORRECT && lane == 13) word = WHAT == 0 ? 0xedc54444 : 0x1dc98444;
    s32 c[4] = {};
    mma_sp_s8(c, a, b, word);
    for (s32 r = 0; r < 4; r++) args.out[4 * lane + r] = c[r];
  } else {
    float c[4] = {};
    const u32 asked = WHAT == 2 ? 5 : 7;
    const u32 word = lane % 4 / 2 != WHAT - 2u || (!CORRECT && lane == asked) ? 0 : legal;
    if (WHAT == 2) {
      mma_sp_f16<0>(c, a, b, word);
    } else {
      mma_sp_bf16<1>(c, a, b, word);
    }
    for (s32 r = 0; r < 4; r++) args.out[4 * lane + r] = __float_as_int(c[r]);
  }
}
