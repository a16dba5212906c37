/* BF16 deltas: tuned - source as hi + lo, and target + hi + lo with one rounding. */

#include "kernels.h"

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

const char ftt_subtract_doc[] =
    "subtract(source, tuned, hi, lo, sums, chunk) -> (changed, lows)\n\n"
    "BF16 tuned - source as hi + lo, bit for bit as `ftt_hub.tensors.difference` has it.\n\n"
    "Sums, zeros at first, takes for every chunk the accumulators of the squares of the differences\n"
    "and of the source: float32 of shape (chunks, 2, 2048). A chunk and the whole are multiples of\n"
    "2048 elements.";

PyObject *ftt_subtract(PyObject *Py_UNUSED(self), PyObject *args) {
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

const char ftt_count_unequal_doc[] =
    "count_unequal(first, second, total) -> int\n\n"
    "Elements at which first + second, in float32, is not the total; all BF16 bits.";

PyObject *ftt_count_unequal(PyObject *Py_UNUSED(self), PyObject *args) {
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

const char ftt_add_doc[] =
    "add(target, change) -> bool\n\n"
    "Target += change in place, each sum rounded once to BF16; whether all sums are finite.";

PyObject *ftt_add(PyObject *Py_UNUSED(self), PyObject *args) {
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

const char ftt_places_doc[] =
    "places(values, out) -> None\n\n"
    "The places of the nonzero 16-bit values, ascending, as int64; there must be as many as out has.";

PyObject *ftt_places(PyObject *Py_UNUSED(self), PyObject *args) {
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

const char ftt_sums_doc[] =
    "sums(target, hi, lo, places, out) -> None\n\n"
    "Out[j] = target + hi + lo at places[j] (int64), rounded once to BF16.";

PyObject *ftt_sums(PyObject *Py_UNUSED(self), PyObject *args) {
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
