// Rows of a float weight become codes, scales and their error, each row read once: what quant.formats does by a dozen
// passes of torch, in one. The arithmetic is that of quant/formats/grid.py and quant/algorithms/clipping.py, operation
// by operation, in float32, so that every bit of codes, scales and zero points is the same. It must be compiled without
// -ffast-math and with -ffp-contract=off.

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { SOURCE_FLOAT32, SOURCE_BFLOAT16 };
enum { CODES_INT8, CODES_E4M3, CODES_INT4 };
enum { PACKING_BYTES, PACKING_OFFSET, PACKING_NIBBLES };
enum { BLOCK = 128, LANES = 32 };

// As quant/kernels/cpu/encode_rows.py has it, field by field.
typedef struct {
    int64_t rows;         // of this call
    int64_t columns;      // K
    int64_t part;         // columns that share a scale: a group, a block's 128, or all
    int64_t part_rows;    // rows that share a scale: 1, or a block's 128
    int32_t source;       // SOURCE_*
    int32_t codes;        // CODES_*
    int32_t packing;      // PACKING_*
    int32_t symmetric;
    int32_t narrow;       // scales are rounded to bfloat16
    int32_t sparse;       // the two largest of every four columns stay
    int32_t given;        // `scale` and `zero` are inputs
    int32_t shrink_count; // factors on a part's range that are tried besides 1, falling; parts of one row only
    const float *shrinks;
    const void *weight;   // [rows, columns]
    void *packed;         // as PACKING_* lays them out
    float *scale;         // [ceil(rows / part_rows), ceil(columns / part)]
    float *zero;          // as scale; whole numbers, 0 where symmetric
    double *lost;         // [rows]: the sum of squares of what rounding changed, and
    double *power;        // [rows]: of the weight
} Rows;

typedef struct {
    float scale, zero;
} Step;

typedef struct {
    float *exact, *pruned, *values; // [columns]; `pruned` is `exact` where nothing is
    double *squares;                // [the power of two above part]
    int8_t *codes;                  // [columns]
    int32_t *ranges;                // [2 * parts]: least and largest, as ordered()
    uint32_t largest;               // of the row that was read last, as a float's bits
} Scratch;

static const float SMALLEST_SCALE = 0x1p-126f;
static const uint32_t LARGEST_E4M3 = 0x43e00000u; // 448 as a float's bits

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static float largest_code(const Rows *p) {
    return p->codes == CODES_INT8 ? 127.0f : p->codes == CODES_E4M3 ? 448.0f : 7.0f;
}

static float to_bfloat16(float x) {
    uint32_t bits = bits_of(x);
    return float_of((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u);
}

static void load(const Rows *p, int64_t row, float *x) {
    const int64_t k = p->columns;
    if (p->source == SOURCE_FLOAT32) {
        memcpy(x, (const float *)p->weight + row * k, k * sizeof *x);
        return;
    }
    const uint16_t *from = (const uint16_t *)p->weight + row * k;
    uint32_t *to = (uint32_t *)x;
    for (int64_t i = 0; i < k; i++) to[i] = (uint32_t)from[i] << 16;
}

// The largest absolute value of some columns of a row, as a float's bits; of values that are not finite, those above.
static uint32_t largest_of(const Rows *p, int64_t row, int64_t first, int64_t count) {
    if (p->source == SOURCE_FLOAT32) {
        const int32_t *from = (const int32_t *)p->weight + row * p->columns + first;
        int32_t largest = 0;
        for (int64_t i = 0; i < count; i++) {
            int32_t size = from[i] & 0x7fffffff;
            largest = size > largest ? size : largest;
        }
        return largest;
    }
    const int16_t *from = (const int16_t *)p->weight + row * p->columns + first;
    int16_t largest = 0;
    for (int64_t i = 0; i < count; i++) {
        int16_t size = from[i] & 0x7fff;
        largest = size > largest ? size : largest;
    }
    return (uint32_t)largest << 16;
}

// The two largest of every four stay, of equal ones the first; the others become zeros of their own sign.
static void prune(float *x, int64_t count) {
    uint32_t *bits = (uint32_t *)x;
    const uint32_t sign = 0x80000000u;
    for (int64_t i = 0; i < count; i += 4) {
        int32_t a = bits[i] & ~sign, b = bits[i + 1] & ~sign, c = bits[i + 2] & ~sign, d = bits[i + 3] & ~sign;
        int32_t ab = b > a, ac = c > a, ad = d > a, bc = c > b, bd = d > b, cd = d > c;
        bits[i] &= sign | -(uint32_t)(ab + ac + ad < 2);
        bits[i + 1] &= sign | -(uint32_t)(1 - ab + bc + bd < 2);
        bits[i + 2] &= sign | -(uint32_t)(2 - ac - bc + cd < 2);
        bits[i + 3] &= sign | -(uint32_t)(3 - ad - bd - cd < 2);
    }
}

// Floats as integers in the same order, so that the compiler may take minima and maxima of eight at once.
static int32_t ordered(uint32_t bits) { return (int32_t)(bits ^ ((uint32_t)((int32_t)bits >> 31) >> 1)); }

static float disordered(int32_t order) { return float_of((uint32_t)order ^ ((uint32_t)(order >> 31) >> 1)); }

static void widen(const float *x, int64_t count, int32_t *low, int32_t *high) {
    const uint32_t *bits = (const uint32_t *)x;
    int32_t least = *low, most = *high;
    for (int64_t i = 0; i < count; i++) {
        int32_t order = ordered(bits[i]);
        least = order < least ? order : least;
        most = order > most ? order : most;
    }
    *low = least, *high = most;
}

static float stored(const Rows *p, float scale) {
    scale = scale < SMALLEST_SCALE ? SMALLEST_SCALE : scale;
    return p->narrow ? to_bfloat16(scale) : scale;
}

static Step step_of_range(const Rows *p, float low, float high) {
    if (!p->symmetric) {
        float width = (high - low) / 15.0f;
        if (isinf(width)) width = high / 15.0f - low / 15.0f;
        float scale = stored(p, width == 0.0f ? 1.0f : width);
        float zero = rintf(-8.0f - low / scale);
        return (Step){scale, zero < -8.0f ? -8.0f : zero > 7.0f ? 7.0f : zero};
    }
    float amax = -low > high ? -low : high;
    return (Step){stored(p, amax == 0.0f ? 1.0f : amax / largest_code(p)), 0.0f};
}

// The nearest codes of a part, and the values that they mean.
static void encode_part(
    const Rows *p, const float *restrict x, int64_t count, Step step, int8_t *restrict codes, float *restrict values) {
    const float scale = step.scale, zero = step.zero, most = largest_code(p);
    if (p->codes == CODES_E4M3) {
        for (int64_t i = 0; i < count; i++) {
            uint32_t bits = bits_of(x[i] / scale), sign = bits & 0x80000000u, size = bits ^ sign;
            size = size > LARGEST_E4M3 ? LARGEST_E4M3 : size;
            // Normal codes keep three bits of the fraction; below 2^-6 codes are multiples of 2^-9, as floats by 2^14.
            uint32_t normal = (size + 0x7ffffu + (size >> 20 & 1)) & ~0xfffffu;
            float small = float_of(size) + 0x1p14f;
            int is_small = (int32_t)size < 0x3c800000;
            uint32_t value = is_small ? bits_of(small - 0x1p14f) : normal;
            uint32_t code = is_small ? bits_of(small) - 0x46800000u : (normal >> 20) - 960u;
            codes[i] = (int8_t)(code | sign >> 24);
            values[i] = float_of(value | sign) * scale;
        }
        return;
    }
    const float least = p->symmetric ? -most : -8.0f;
    for (int64_t i = 0; i < count; i++) {
        float code = rintf(x[i] / scale) + zero;
        code = code < most ? code : most;
        code = code > least ? code : least;
        codes[i] = (int8_t)(int32_t)code;
        values[i] = (code - zero) * scale;
    }
}

static inline double sum_by_halves(double *squares, int64_t size) {
    for (size /= 2; size > 0; size /= 2)
        for (int64_t i = 0; i < size; i++) squares[i] += squares[i + size];
    return squares[0];
}

// Squares of what rounding to whole numbers changes. Called with `count` and `size` known where it is compiled, which is
// three times as fast.
static inline __attribute__((always_inline)) double integer_error(
    const Rows *p, const float *restrict x, int64_t count, int64_t size, Step step, double *restrict squares) {
    const float scale = step.scale, zero = step.zero, most = largest_code(p), least = p->symmetric ? -most : -8.0f;
    for (int64_t i = 0; i < count; i++) {
        float code = rintf(x[i] / scale) + zero;
        code = code < most ? code : most;
        code = code > least ? code : least;
        double change = (double)((code - zero) * scale - x[i]);
        squares[i] = change * change;
    }
    for (int64_t i = count; i < size; i++) squares[i] = 0.0;
    return sum_by_halves(squares, size);
}

// The squares of what rounding a part changes, summed in float64 by halves: the order is part of the definition.
static double error_of(const Rows *p, const float *x, int64_t count, Step step, Scratch *scratch) {
    double *squares = scratch->squares;
    int64_t size = 1;
    while (size < count) size *= 2;
    if (p->codes != CODES_E4M3) {
        if (count == 128) return integer_error(p, x, 128, 128, step, squares);
        if (count == 64) return integer_error(p, x, 64, 64, step, squares);
        if (count == 32) return integer_error(p, x, 32, 32, step, squares);
        return integer_error(p, x, count, size, step, squares);
    }
    encode_part(p, x, count, step, scratch->codes, scratch->values);
    for (int64_t i = 0; i < count; i++) {
        double change = (double)(scratch->values[i] - x[i]);
        squares[i] = change * change;
    }
    for (int64_t i = count; i < size; i++) squares[i] = 0.0;
    return sum_by_halves(squares, size);
}

static Step search(const Rows *p, const float *x, int64_t count, Step first, Scratch *scratch) {
    double least = error_of(p, x, count, first, scratch);
    const float most = largest_code(p);
    const float high = p->symmetric ? first.scale * most : (7.0f - first.zero) * first.scale;
    const float low = p->symmetric ? -high : (-8.0f - first.zero) * first.scale;
    Step best = first, before = first;
    for (int32_t i = 0; i < p->shrink_count; i++) {
        Step tried = step_of_range(p, low * p->shrinks[i], high * p->shrinks[i]);
        if (tried.scale == before.scale && tried.zero == before.zero) continue;
        before = tried;
        double error = error_of(p, x, count, tried, scratch);
        if (error < least) least = error, best = tried;
    }
    return best;
}

// A 2:4 row as its layout gives it back: two of four are kept as they are, and the others are plain zeros.
static void two_of_four(const Rows *p, int8_t *codes) {
    // By which codes are not zero, the bytes kept where fewer than two are.
    static const uint32_t few[16] = {[0] = 0xffff, [1] = 0xffff, [2] = 0xffff00, [4] = 0xffff0000, [8] = 0xffff0000};
    const uint32_t size = p->codes == CODES_E4M3 ? 0x7f7f7f7fu : 0xffffffffu;
    for (int64_t i = 0; i < p->columns; i += 4) {
        uint32_t group;
        memcpy(&group, codes + i, sizeof group);
        uint32_t sizes = group & size;
        uint32_t flags = (((sizes & 0x7f7f7f7fu) + 0x7f7f7f7fu) | sizes) >> 7 & 0x01010101u;
        uint32_t sum = flags * 0x01010101u >> 24;
        // Flag j, at bit 8j, is moved to bit 21 + j, and below.
        group &= sum == 2 ? flags * 255u : few[flags * 0x00204081u >> 21 & 15];
        memcpy(codes + i, &group, sizeof group);
    }
}

static void pack(const Rows *p, int64_t row, const int8_t *codes) {
    const int64_t k = p->columns;
    if (p->packing == PACKING_BYTES) {
        memcpy((uint8_t *)p->packed + row * k, codes, k);
    } else if (p->packing == PACKING_OFFSET) {
        const int64_t width = (k + 3) / 4 * 4;
        uint8_t *to = (uint8_t *)p->packed + row * width;
        for (int64_t i = 0; i < k; i++) to[i] = (uint8_t)codes[i] ^ 0x80;
        memset(to + k, 0, width - k);
    } else {
        const int64_t width = (k + 7) / 8 * 4;
        uint8_t *to = (uint8_t *)p->packed + row * width;
        for (int64_t i = 0; i < k / 2; i++) to[i] = (uint8_t)((codes[2 * i] + 8) | (codes[2 * i + 1] + 8) << 4);
        memset(to + k / 2, 0, width - k / 2);
        if (k % 2) to[k / 2] = (uint8_t)(codes[k - 1] + 8);
    }
}

// Sums of squares of what rounding changed and of the weight, in units of the row's largest value: float32 for a few
// hundred columns at a time, so that eight are added at once, then float64.
static void sum_squares(const float *x, const float *values, int64_t count, uint32_t largest, double *lost, double *power) {
    enum { STRETCH = 16 * LANES };
    const int32_t exponent = (int32_t)(largest >> 23) - 127; // below, |x| < 2 and no square overflows or vanishes
    const float unit = ldexpf(1.0f, exponent < -126 ? 126 : exponent > 126 ? -126 : -exponent);
    double off = 0.0, all = 0.0;
    for (int64_t start = 0; start < count; start += STRETCH) {
        const int64_t end = start + STRETCH < count ? start + STRETCH : count;
        float part_off[LANES] = {0}, part_all[LANES] = {0};
        int64_t i = start;
        for (; i + LANES <= end; i += LANES)
            for (int j = 0; j < LANES; j++) {
                float exact = x[i + j] * unit, change = (values[i + j] - x[i + j]) * unit;
                part_off[j] += change * change, part_all[j] += exact * exact;
            }
        for (int j = 0; i < end; i++, j++) {
            float exact = x[i] * unit, change = (values[i] - x[i]) * unit;
            part_off[j] += change * change, part_all[j] += exact * exact;
        }
        for (int j = 0; j < LANES; j++) off += part_off[j], all += part_all[j];
    }
    *lost = off / unit / unit, *power = all / unit / unit;
}

static int allocate(const Rows *p, int64_t parts, Scratch *s) {
    const int64_t k = p->columns;
    int64_t size = 1;
    while (size < p->part) size *= 2;
    s->exact = malloc(k * sizeof *s->exact), s->values = malloc(k * sizeof *s->values);
    s->pruned = p->sparse ? malloc(k * sizeof *s->pruned) : s->exact;
    s->squares = malloc(size * sizeof *s->squares);
    s->codes = malloc(k), s->ranges = malloc(2 * parts * sizeof *s->ranges);
    return s->exact && s->values && s->pruned && s->squares && s->codes && s->ranges;
}

static void release(const Rows *p, Scratch *s) {
    if (p->sparse) free(s->pruned);
    free(s->exact), free(s->values), free(s->squares), free(s->codes), free(s->ranges);
}

static int64_t columns_of(const Rows *p, int64_t part) {
    int64_t left = p->columns - part * p->part;
    return left < p->part ? left : p->part;
}

static void read_row(const Rows *p, int64_t row, Scratch *s) {
    load(p, row, s->exact);
    if (p->sparse) memcpy(s->pruned, s->exact, p->columns * sizeof *s->exact), prune(s->pruned, p->columns);
}

// Scales of the parts that share rows start to end; the number of the first row that is not finite + 1, else 0.
static int64_t find_scales(const Rows *p, int64_t start, int64_t end, int64_t parts, Scratch *s) {
    float *scale = p->scale + start / p->part_rows * parts, *zero = p->zero + start / p->part_rows * parts;
    memset(s->ranges, 0, 2 * parts * sizeof *s->ranges);
    for (int64_t row = start; row < end; row++) {
        uint32_t largest = 0;
        // A 2:4 mask takes no part's largest value away.
        for (int64_t j = 0; j < parts; j++) {
            uint32_t found = largest_of(p, row, j * p->part, columns_of(p, j));
            largest = found > largest ? found : largest;
            s->ranges[2 * j + 1] = (int32_t)found > s->ranges[2 * j + 1] ? (int32_t)found : s->ranges[2 * j + 1];
        }
        if (largest >= 0x7f800000u) return row + 1;
        s->largest = largest;
        if (p->part_rows == 1) read_row(p, row, s);
        if (p->symmetric || p->given) continue;
        for (int64_t j = 0; j < parts; j++) {
            s->ranges[2 * j + 1] = 0; // parts without symmetry are of one row
            widen(s->pruned + j * p->part, columns_of(p, j), s->ranges + 2 * j, s->ranges + 2 * j + 1);
        }
    }
    for (int64_t j = 0; j < parts && !p->given; j++) {
        Step step = step_of_range(p, disordered(s->ranges[2 * j]), disordered(s->ranges[2 * j + 1]));
        if (p->shrink_count) step = search(p, s->pruned + j * p->part, columns_of(p, j), step, s);
        scale[j] = step.scale, zero[j] = step.zero;
    }
    return 0;
}

// Returns 0; -1 where memory lacks; else 1 + the first row that is not finite, at which it stops.
int64_t quant_encode_rows(const Rows *p) {
    const int64_t parts = (p->columns + p->part - 1) / p->part;
    Scratch s;
    int64_t status = allocate(p, parts, &s) ? 0 : -1;
    for (int64_t start = 0; start < p->rows && status == 0; start += p->part_rows) {
        const int64_t end = start + p->part_rows < p->rows ? start + p->part_rows : p->rows;
        const float *scale = p->scale + start / p->part_rows * parts, *zero = p->zero + start / p->part_rows * parts;
        status = find_scales(p, start, end, parts, &s);
        for (int64_t row = start; row < end && status == 0; row++) {
            if (p->part_rows > 1) read_row(p, row, &s), s.largest = largest_of(p, row, 0, p->columns);
            for (int64_t j = 0; j < parts; j++) {
                const int64_t first = j * p->part;
                const Step step = {scale[j], zero[j]};
                encode_part(p, s.pruned + first, columns_of(p, j), step, s.codes + first, s.values + first);
            }
            if (p->sparse) two_of_four(p, s.codes);
            pack(p, row, s.codes);
            sum_squares(s.exact, s.values, p->columns, s.largest, p->lost + row, p->power + row);
        }
    }
    release(p, &s);
    return status;
}
