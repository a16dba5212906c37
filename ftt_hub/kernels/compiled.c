/* The inner loops of BF16 deltas, compiled: one pass over memory where NumPy takes five to ten.

   Each function gives the same bits as the NumPy code that calls it and that stands in for it where
   there is no compiler; tests compare the two. So sums of squares are kept in one accumulator for
   each place in a row of ROW elements, in float32, as NumPy adds rows; products and sums must not
   be fused (-ffp-contract=off, which ISO C mode implies). No function keeps state, allocates, or
   trusts a length: every buffer is measured against the others before it is touched. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>
#ifdef _MSC_VER
#include <intrin.h>
#define restrict __restrict
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "written for little-endian machines; the package works without this module"
#endif

#define VERSION 1 /* raised with every change that the Python code must know of */
#define ROW 2048  /* elements; even ones and odd ones have accumulators of their own */
#define SIGN 0x8000u
#define INFINITE 0x7F80u
#define TOP 0x80000000u

/* One binary for all machines of a kind: the fastest of these versions is taken when it is loaded. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define VECTORISED __attribute__((target_clones("arch=skylake-avx512", "avx2", "default")))
#else
#define VECTORISED
#endif

static inline float widened(uint16_t bits) {
    uint32_t word = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

static inline uint32_t word_of(float value) {
    uint32_t word;
    memcpy(&word, &value, sizeof word);
    return word;
}

/* To nearest, ties to even; overflow gives infinity, NaN something that is not finite. */
static inline uint16_t narrowed(float value) {
    uint32_t word = word_of(value);
    return (uint16_t)((word + 0x7FFFu + ((word >> 16) & 1u)) >> 16);
}

/* A row of tuned - source as hi + lo (TwoSum), with squares added to the accumulators. */
VECTORISED static uint32_t subtract_row(const uint16_t *restrict source,
                                        const uint16_t *restrict tuned, uint16_t *restrict hi,
                                        uint16_t *restrict lo, float *restrict changes,
                                        float *restrict weights, uint32_t *restrict lows) {
    uint32_t changed = 0, kept = 0;
    for (int i = 0; i < ROW; i++) {
        uint16_t before = source[i], after = tuned[i];
        float a = widened(before), b = widened((uint16_t)(after ^ SIGN));
        float minus = a + b;
        float from_b = minus - a;
        float error = (a - (minus - from_b)) + (b - from_b);
        uint16_t rounded = narrowed(minus);
        float residue = (minus - widened(rounded)) + error;
        uint16_t low = (uint16_t)(narrowed(residue) ^ SIGN);
        uint16_t new_zero = (uint16_t)(((after == SIGN) & (before != SIGN)) * SIGN);
        low = residue != 0.0f ? low : new_zero;
        hi[i] = (uint16_t)(rounded ^ SIGN);
        lo[i] = low;
        kept += low != 0;
        changed += before != after;
        changes[i] += minus * minus;
        weights[i] += a * a;
    }
    *lows += kept;
    return changed;
}

VECTORISED static uint32_t unequal_row(const uint16_t *restrict first,
                                       const uint16_t *restrict second,
                                       const uint16_t *restrict total, Py_ssize_t count) {
    uint32_t found = 0;
    for (Py_ssize_t i = 0; i < count; i++)
        found += word_of(widened(first[i]) + widened(second[i])) != (uint32_t)total[i] << 16;
    return found;
}

/* Target + change, rounded once; the largest magnitude of the sums. */
VECTORISED static uint16_t add_row(uint16_t *restrict target, const uint16_t *restrict change,
                                   Py_ssize_t count) {
    uint16_t largest = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        uint16_t sum = narrowed(widened(change[i]) + widened(target[i]));
        uint16_t magnitude = sum & (uint16_t)(SIGN - 1);
        target[i] = sum;
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
}

static inline void two_sum(double a, double b, double *sum, double *error) {
    double s = a + b, from_b = s - a;
    *error = (a - (s - from_b)) + (b - from_b);
    *sum = s;
}

/* a + b rounded to odd: when inexact, the neighbour whose last bit is one. */
static inline double to_odd(double a, double b) {
    double sum, error;
    two_sum(a, b, &sum, &error);
    int64_t word;
    memcpy(&word, &sum, sizeof word);
    if (error != 0.0 && !(word & 1)) word += (error > 0.0) == (sum > 0.0) ? 1 : -1;
    memcpy(&sum, &word, sizeof sum);
    return sum;
}

/* Target + hi + lo rounded once (Boldo and Melquiond 2008, Fig. 3), with both conventions on zero. */
static uint16_t sum_of_three(uint16_t target, uint16_t hi, uint16_t lo) {
    if (hi == SIGN && lo == 0) return target;
    double high, low, total, rest;
    two_sum(widened(hi), widened(lo), &high, &low);
    two_sum(widened(target), high, &total, &rest);
    if (low != 0.0 || rest != 0.0) total = to_odd(total, to_odd(rest, low));
    if (lo == SIGN && total == 0.0) return SIGN;
    float single = (float)total;
    uint32_t word = word_of(single);
    if ((word & 0xFFFFu) == 0x8000u && (double)single != total) /* rounding twice would matter */
        word += (total < 0 ? -total : total) > (single < 0 ? -(double)single : (double)single)
                    ? 1u
                    : UINT32_MAX;
    return (uint16_t)((word + 0x7FFFu + ((word >> 16) & 1u)) >> 16);
}

static inline int first_bit(uint64_t word) {
#ifdef _MSC_VER
    unsigned long place;
    _BitScanForward64(&place, word);
    return (int)place;
#else
    return __builtin_ctzll(word);
#endif
}

/* 0 with an exception where a buffer is not `count` elements of `size` bytes. */
static int fits(const Py_buffer *view, Py_ssize_t size, Py_ssize_t count) {
    if ((uintptr_t)view->buf % (uintptr_t)size != 0) {
        PyErr_SetString(PyExc_ValueError, "a buffer that is not aligned");
        return 0;
    }
    if (view->len == size * count) return 1;
    PyErr_Format(PyExc_ValueError, "a buffer of %zd bytes where %zd are needed", view->len,
                 size * count);
    return 0;
}

static void release(Py_buffer *views, int count) {
    for (int i = 0; i < count; i++) PyBuffer_Release(&views[i]);
}

PyDoc_STRVAR(subtract_doc,
"subtract(source, tuned, hi, lo, sums, chunk) -> (changed, lows)\n\n"
"BF16 tuned - source as hi + lo, bit for bit as `ftt_hub.tensors.difference` has it.\n\n"
"Sums, zeros at first, takes for every chunk the accumulators of the squares of the differences\n"
"and of the source: float32 of shape (chunks, 2, 2048). A chunk and the whole are multiples of\n"
"2048 elements.");

static PyObject *subtract(PyObject *self, PyObject *args) {
    (void)self;
    Py_buffer v[5];
    Py_ssize_t chunk;
    if (!PyArg_ParseTuple(args, "y*y*w*w*w*n", &v[0], &v[1], &v[2], &v[3], &v[4], &chunk))
        return NULL;
    Py_ssize_t count = v[0].len / 2;
    int good = chunk > 0 && chunk % ROW == 0 && count % ROW == 0;
    if (!good) PyErr_SetString(PyExc_ValueError, "not in rows of 2048 elements");
    Py_ssize_t chunks = good ? (count + chunk - 1) / chunk : 0;
    for (int i = 0; i < 4; i++) good = good && fits(&v[i], 2, count);
    good = good && fits(&v[4], (Py_ssize_t)sizeof(float), chunks * 2 * ROW);
    if (!good) {
        release(v, 5);
        return NULL;
    }
    const uint16_t *source = v[0].buf, *tuned = v[1].buf;
    uint16_t *hi = v[2].buf, *lo = v[3].buf;
    uint64_t changed = 0, lows = 0;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t start = 0; start < count; start += ROW) {
        float *sums = (float *)v[4].buf + start / chunk * 2 * ROW;
        uint32_t kept = 0;
        changed += subtract_row(source + start, tuned + start, hi + start, lo + start, sums,
                                sums + ROW, &kept);
        lows += kept;
    }
    Py_END_ALLOW_THREADS
    release(v, 5);
    return Py_BuildValue("(KK)", (unsigned long long)changed, (unsigned long long)lows);
}

PyDoc_STRVAR(count_unequal_doc,
"count_unequal(first, second, total) -> int\n\n"
"Elements at which first + second, in float32, is not the total; all BF16 bits.");

static PyObject *count_unequal(PyObject *self, PyObject *args) {
    (void)self;
    Py_buffer v[3];
    if (!PyArg_ParseTuple(args, "y*y*y*", &v[0], &v[1], &v[2])) return NULL;
    Py_ssize_t count = v[0].len / 2;
    if (!(fits(&v[0], 2, count) && fits(&v[1], 2, count) && fits(&v[2], 2, count))) {
        release(v, 3);
        return NULL;
    }
    const uint16_t *first = v[0].buf, *second = v[1].buf, *total = v[2].buf;
    uint64_t found = 0;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t start = 0; start < count; start += ROW) {
        Py_ssize_t length = count - start < ROW ? count - start : ROW;
        found += unequal_row(first + start, second + start, total + start, length);
    }
    Py_END_ALLOW_THREADS
    release(v, 3);
    return PyLong_FromUnsignedLongLong(found);
}

PyDoc_STRVAR(add_doc,
"add(target, change) -> bool\n\n"
"Target += change in place, each sum rounded once to BF16; whether all sums are finite.");

static PyObject *add(PyObject *self, PyObject *args) {
    (void)self;
    Py_buffer v[2];
    if (!PyArg_ParseTuple(args, "w*y*", &v[0], &v[1])) return NULL;
    Py_ssize_t count = v[0].len / 2;
    if (!(fits(&v[0], 2, count) && fits(&v[1], 2, count))) {
        release(v, 2);
        return NULL;
    }
    uint16_t *target = v[0].buf, largest = 0;
    const uint16_t *change = v[1].buf;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t start = 0; start < count; start += ROW) {
        Py_ssize_t length = count - start < ROW ? count - start : ROW;
        uint16_t found = add_row(target + start, change + start, length);
        largest = found > largest ? found : largest;
    }
    Py_END_ALLOW_THREADS
    release(v, 2);
    return PyBool_FromLong(largest < INFINITE);
}

PyDoc_STRVAR(places_doc,
"places(values, out) -> None\n\n"
"The places of the nonzero 16-bit values, ascending, as int64; there must be as many as out has.");

static PyObject *places(PyObject *self, PyObject *args) {
    (void)self;
    Py_buffer v[2];
    if (!PyArg_ParseTuple(args, "y*w*", &v[0], &v[1])) return NULL;
    Py_ssize_t count = v[0].len / 2, room = v[1].len / 8, number = 0;
    if (!(fits(&v[0], 2, count) && fits(&v[1], 8, room))) {
        release(v, 2);
        return NULL;
    }
    const uint16_t *values = v[0].buf;
    int64_t *out = v[1].buf;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t start = 0; start < count && number <= room; start += 32) {
        Py_ssize_t end = count - start < 32 ? count : start + 32;
        uint16_t any = 0;
        for (Py_ssize_t i = start; i < end; i++) any |= values[i];
        if (!any) continue;
        for (Py_ssize_t i = start; i < end; i++)
            if (values[i]) {
                if (number < room) out[number] = i;
                number++;
            }
    }
    Py_END_ALLOW_THREADS
    release(v, 2);
    if (number != room) {
        PyErr_SetString(PyExc_ValueError, "another number of nonzero values than announced");
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(sums_doc,
"sums(target, hi, lo, places, out) -> None\n\n"
"Out[j] = target + hi + lo at places[j] (int64), rounded once to BF16.");

static PyObject *sums(PyObject *self, PyObject *args) {
    (void)self;
    Py_buffer v[5];
    if (!PyArg_ParseTuple(args, "y*y*y*y*w*", &v[0], &v[1], &v[2], &v[3], &v[4])) return NULL;
    Py_ssize_t count = v[0].len / 2, number = v[4].len / 2, bad = 0;
    if (!(fits(&v[0], 2, count) && fits(&v[1], 2, count) && fits(&v[2], 2, count) &&
          fits(&v[3], 8, number) && fits(&v[4], 2, number))) {
        release(v, 5);
        return NULL;
    }
    const uint16_t *target = v[0].buf, *hi = v[1].buf, *lo = v[2].buf;
    const int64_t *where = v[3].buf;
    uint16_t *out = v[4].buf;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t j = 0; j < number; j++) {
        int64_t i = where[j];
        if (i < 0 || i >= count) {
            bad = 1;
            break;
        }
        out[j] = sum_of_three(target[i], hi[i], lo[i]);
    }
    Py_END_ALLOW_THREADS
    release(v, 5);
    if (bad) {
        PyErr_SetString(PyExc_IndexError, "a place lies outside the block");
        return NULL;
    }
    Py_RETURN_NONE;
}

/* The places of one byte among at most ROW of them; how many there are. */
static int find(const uint8_t *bytes, int count, uint8_t one, uint16_t *where) {
    const uint64_t low = UINT64_C(0x7F7F7F7F7F7F7F7F);
    int number = 0, start = 0;
    for (; start + 8 <= count; start += 8) {
        uint64_t word;
        memcpy(&word, bytes + start, sizeof word);
        word ^= one * UINT64_C(0x0101010101010101);
        word = ~((((word & low) + low) | word) | low); /* the upper bit of every byte that was equal */
        for (; word; word &= word - 1) where[number++] = (uint16_t)(start + first_bit(word) / 8);
    }
    for (; start < count; start++)
        if (bytes[start] == one) where[number++] = (uint16_t)start;
    return number;
}

static void look_up_row(const uint16_t *restrict values, const uint8_t *restrict table,
                        uint8_t *restrict out, int count) {
    for (int i = 0; i < count; i++) out[i] = table[values[i]];
}

PyDoc_STRVAR(to_symbols_doc,
"to_symbols(values, table, symbol, out, rest) -> int\n\n"
"Out[i] = table[values[i]]: 16-bit values to bytes, by a table of 65,536 bytes. Those that become\n"
"the given symbol are copied to the front of rest, which has room for all; their number.");

static PyObject *to_symbols(PyObject *self, PyObject *args) {
    (void)self;
    Py_buffer v[4];
    unsigned char apart;
    if (!PyArg_ParseTuple(args, "y*y*bw*w*", &v[0], &v[1], &apart, &v[2], &v[3])) return NULL;
    Py_ssize_t count = v[0].len / 2, number = 0;
    if (!(fits(&v[0], 2, count) && fits(&v[1], 1, 65536) && fits(&v[2], 1, count) &&
          fits(&v[3], 2, count))) {
        release(v, 4);
        return NULL;
    }
    const uint16_t *values = v[0].buf;
    const uint8_t *table = v[1].buf;
    uint8_t *out = v[2].buf;
    uint16_t *rest = v[3].buf, where[ROW];
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t start = 0; start < count; start += ROW) {
        int length = count - start < ROW ? (int)(count - start) : ROW;
        look_up_row(values + start, table, out + start, length);
        int found = find(out + start, length, apart, where);
        for (int j = 0; j < found; j++) rest[number++] = values[start + where[j]];
    }
    Py_END_ALLOW_THREADS
    release(v, 4);
    return PyLong_FromSsize_t(number);
}

static void expand_row(const uint8_t *restrict symbols, const uint16_t *restrict table,
                       uint16_t *restrict out, int count) {
    for (int i = 0; i < count; i++) out[i] = table[symbols[i]];
}

/* Two symbols at a time; count is even. */
static void expand_pairs(const uint8_t *restrict symbols, const uint32_t *restrict pairs,
                         uint16_t *restrict out, int count) {
    for (int i = 0; i < count; i += 2) {
        uint16_t two;
        memcpy(&two, symbols + i, sizeof two);
        memcpy(out + i, pairs + two, sizeof *pairs);
    }
}

PyDoc_STRVAR(from_symbols_doc,
"from_symbols(symbols, table, pairs, symbol, rest, out) -> None\n\n"
"Out[i] = table[symbols[i]]: bytes to 16-bit values, by a table of 256 of them; but for the given\n"
"symbol the values of rest, in order, of which the last is not used. Pairs, where it is not empty,\n"
"takes two symbols as a 16-bit number to their two values, uint32: twice as fast.");

static PyObject *from_symbols(PyObject *self, PyObject *args) {
    (void)self;
    Py_buffer v[5];
    unsigned char apart;
    if (!PyArg_ParseTuple(args, "y*y*y*by*w*", &v[0], &v[1], &v[2], &apart, &v[3], &v[4]))
        return NULL;
    Py_ssize_t count = v[0].len, last = v[3].len / 2 - 1, number = 0;
    int good = last >= 0;
    if (!good) PyErr_SetString(PyExc_ValueError, "a buffer of no bytes: rest");
    if (!(good && fits(&v[1], 2, 256) && (!v[2].len || fits(&v[2], 4, 65536)) &&
          fits(&v[3], 2, last + 1) && fits(&v[4], 2, count))) {
        release(v, 5);
        return NULL;
    }
    const uint8_t *symbols = v[0].buf;
    const uint16_t *rest = v[3].buf;
    uint16_t *out = v[4].buf, where[ROW];
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t start = 0; start < count; start += ROW) {
        int length = count - start < ROW ? (int)(count - start) : ROW;
        if (v[2].len && length == ROW)
            expand_pairs(symbols + start, v[2].buf, out + start, length);
        else
            expand_row(symbols + start, v[1].buf, out + start, length);
        int found = find(symbols + start, length, apart, where);
        for (int j = 0; j < found && number + j < last; j++)
            out[start + where[j]] = rest[number + j];
        number += found;
    }
    Py_END_ALLOW_THREADS
    release(v, 5);
    if (number != last) {
        PyErr_SetString(PyExc_ValueError, "the symbol occurs another number of times");
        return NULL;
    }
    Py_RETURN_NONE;
}

/* How many bytes equal one. */
VECTORISED static uint32_t equal_row(const uint8_t *restrict bytes, uint8_t one, int count) {
    uint32_t found = 0;
    for (int i = 0; i < count; i++) found += bytes[i] == one;
    return found;
}

PyDoc_STRVAR(count_doc, "count(symbols, symbol) -> int\n\nHow often a symbol occurs.");

static PyObject *count(PyObject *self, PyObject *args) {
    (void)self;
    Py_buffer view;
    unsigned char one;
    if (!PyArg_ParseTuple(args, "y*b", &view, &one)) return NULL;
    uint64_t found = 0;
    const uint8_t *bytes = view.buf;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t start = 0; start < view.len; start += ROW)
        found += equal_row(bytes + start, one,
                           view.len - start < ROW ? (int)(view.len - start) : ROW);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&view);
    return PyLong_FromUnsignedLongLong(found);
}

static inline void butterfly(float *restrict a, float *restrict b, int count) {
    for (int i = 0; i < count; i++) {
        float sum = a[i] + b[i], difference = a[i] - b[i];
        a[i] = sum;
        b[i] = difference;
    }
}

/* Two stages at once: half the passes over the cache. */
static inline void butterflies(float *restrict a, float *restrict b, float *restrict c,
                               float *restrict d, int count) {
    for (int i = 0; i < count; i++) {
        float p = a[i] + b[i], q = a[i] - b[i], r = c[i] + d[i], s = c[i] - d[i];
        a[i] = p + r;
        b[i] = q + s;
        c[i] = p - r;
        d[i] = q - s;
    }
}

static inline void eight(float *x) {
    float a = x[0] + x[1], b = x[0] - x[1], c = x[2] + x[3], d = x[2] - x[3];
    float e = x[4] + x[5], f = x[4] - x[5], g = x[6] + x[7], h = x[6] - x[7];
    float p = a + c, q = b + d, r = a - c, s = b - d;
    float t = e + g, u = f + h, v = e - g, w = f - h;
    x[0] = p + t, x[1] = q + u, x[2] = r + v, x[3] = s + w;
    x[4] = p - t, x[5] = q - u, x[6] = r - v, x[7] = s - w;
}

/* The Hadamard matrix times a run of 2^k >= 8 integers, in place; exact while sums are below 2^24. */
VECTORISED static void hadamard(float *run, int width) {
    int half = 8;
    for (int i = 0; i < width; i += 8) eight(run + i);
    for (; 2 * half < width; half *= 4)
        for (int i = 0; i < width; i += 4 * half)
            butterflies(run + i, run + i + half, run + i + 2 * half, run + i + 3 * half, half);
    for (; half < width; half *= 2)
        for (int i = 0; i < width; i += 2 * half) butterfly(run + i, run + i + half, half);
}

/* The sum of the magnitudes, exact below 2^24, where every partial sum is exact. */
VECTORISED static double magnitudes(const float *run, int width) {
    float lanes[8] = {0};
    for (int i = 0; i < width; i += 8)
        for (int j = 0; j < 8; j++) lanes[j] += run[i + j] < 0 ? -run[i + j] : run[i + j];
    double total = 0;
    for (int j = 0; j < 8; j++) total += lanes[j];
    return total;
}

VECTORISED static void scale(float *restrict run, int width, float gain,
                             const uint8_t *restrict signs) {
    for (int i = 0; i < width; i += 8)
        for (int j = 0; j < 8; j++) {
            uint32_t word = word_of(run[i + j] * gain) ^ ((uint32_t)signs[i / 8] << (31 - j) & TOP);
            memcpy(run + i + j, &word, sizeof word);
        }
}

PyDoc_STRVAR(turn_doc,
"turn(levels, width, gains, signs) -> float\n\n"
"Runs of `width` (a power of two, 8 to 4096) float32 integers become gain * sign * (H q), in\n"
"place: a gain (float32) a run, a bit a weight, set for minus. Returns the largest sum of the\n"
"magnitudes in a run; from 2^24 on nothing after that run was changed.");

static PyObject *turn(PyObject *self, PyObject *args) {
    (void)self;
    Py_buffer v[3];
    int width;
    if (!PyArg_ParseTuple(args, "w*iy*y*", &v[0], &width, &v[1], &v[2])) return NULL;
    Py_ssize_t number = v[1].len / 4;
    int good = width >= 8 && width <= 4096 && !(width & (width - 1));
    if (!good) PyErr_SetString(PyExc_ValueError, "runs of an impossible number of weights");
    if (!(good && fits(&v[1], 4, number) && fits(&v[0], 4, number * width) &&
          fits(&v[2], 1, number * width / 8))) {
        release(v, 3);
        return NULL;
    }
    float *levels = v[0].buf;
    const float *gains = v[1].buf;
    const uint8_t *signs = v[2].buf;
    double largest = 0;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t run = 0; run < number && largest < 16777216.0; run++) {
        float *here = levels + run * width;
        double sum = magnitudes(here, width);
        if (!(sum < 16777216.0)) { /* NaN too */
            largest = 16777216.0;
            break;
        }
        largest = sum > largest ? sum : largest;
        if (sum > 0) {
            hadamard(here, width);
            scale(here, width, gains[run], signs + run * width / 8);
        }
    }
    Py_END_ALLOW_THREADS
    release(v, 3);
    return PyFloat_FromDouble(largest);
}

VECTORISED static uint16_t narrow_row(const float *restrict values, uint16_t *restrict out,
                                      int count) {
    uint16_t largest = 0;
    for (int i = 0; i < count; i++) {
        uint16_t bits = narrowed(values[i]), magnitude = bits & (uint16_t)(SIGN - 1);
        out[i] = magnitude ? bits : (uint16_t)SIGN;
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
}

PyDoc_STRVAR(narrow_doc,
"narrow(values, out) -> bool\n\n"
"Float32 values rounded to BF16, both zeros to -0.0, and whether all are finite.");

static PyObject *narrow(PyObject *self, PyObject *args) {
    (void)self;
    Py_buffer v[2];
    if (!PyArg_ParseTuple(args, "y*w*", &v[0], &v[1])) return NULL;
    Py_ssize_t count = v[1].len / 2;
    if (!(fits(&v[0], 4, count) && fits(&v[1], 2, count))) {
        release(v, 2);
        return NULL;
    }
    const float *values = v[0].buf;
    uint16_t *out = v[1].buf, largest = 0;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t start = 0; start < count; start += ROW) {
        int length = count - start < ROW ? (int)(count - start) : ROW;
        uint16_t found = narrow_row(values + start, out + start, length);
        largest = found > largest ? found : largest;
    }
    Py_END_ALLOW_THREADS
    release(v, 2);
    return PyBool_FromLong(largest < INFINITE);
}

static PyMethodDef methods[] = {
    {"subtract", subtract, METH_VARARGS, subtract_doc},
    {"count_unequal", count_unequal, METH_VARARGS, count_unequal_doc},
    {"add", add, METH_VARARGS, add_doc},
    {"places", places, METH_VARARGS, places_doc},
    {"to_symbols", to_symbols, METH_VARARGS, to_symbols_doc},
    {"from_symbols", from_symbols, METH_VARARGS, from_symbols_doc},
    {"sums", sums, METH_VARARGS, sums_doc},
    {"count", count, METH_VARARGS, count_doc},
    {"turn", turn, METH_VARARGS, turn_doc},
    {"narrow", narrow, METH_VARARGS, narrow_doc},
    {NULL, NULL, 0, NULL},
};

static int set_up(PyObject *module) { return PyModule_AddIntConstant(module, "VERSION", VERSION); }

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)set_up}, {0, NULL}};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "compiled", .m_size = 0, .m_methods = methods, .m_slots = slots,
};

PyMODINIT_FUNC PyInit_compiled(void) { return PyModuleDef_Init(&definition); }
