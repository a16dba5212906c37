/* Runs of levels turned back to weights (`ftt_hub.codecs.rotated`), and rounded to BF16. */

#include "kernels.h"

#define TOP 0x80000000u

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

const char ftt_turn_doc[] =
    "turn(levels, width, gains, signs) -> float\n\n"
    "Runs of `width` (a power of two, 8 to 4096) float32 integers become gain * sign * (H q), in\n"
    "place: a gain (float32) a run, a bit a weight, set for minus. Returns the largest sum of the\n"
    "magnitudes in a run; from 2^24 on nothing after that run was changed.";

PyObject *ftt_turn(PyObject *Py_UNUSED(self), PyObject *args) {
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

const char ftt_narrow_doc[] =
    "narrow(values, out) -> bool\n\n"
    "Float32 values rounded to BF16, both zeros to -0.0, and whether all are finite.";

PyObject *ftt_narrow(PyObject *Py_UNUSED(self), PyObject *args) {
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
