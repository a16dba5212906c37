/* Runs of weights turned to levels and back (`ftt_hub.codecs.rotated`), and rounded to BF16. */

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

/* To the nearest integer, ties to even, for magnitudes below 2^22; larger ones stay large. */
static inline float rounded(float value) { return (value + 12582912.0f) - 12582912.0f; }

/* The same below 2^51. */
static inline double rounded_double(double value) {
    return (value + 6755399441055744.0) - 6755399441055744.0;
}

VECTORISED static float largest(const float *run, int width) {
    float lanes[8] = {0}, found = 0;
    for (int i = 0; i < width; i += 8)
        for (int j = 0; j < 8; j++) {
            float magnitude = run[i + j] < 0 ? -run[i + j] : run[i + j];
            lanes[j] = magnitude > lanes[j] ? magnitude : lanes[j];
        }
    for (int j = 0; j < 8; j++) found = lanes[j] > found ? lanes[j] : found;
    return found;
}

/* Integers with random signs in place of weights; the sum of their squares, which is exact. */
VECTORISED static double to_integers(float *restrict run, int width, float factor,
                                     const uint8_t *restrict signs) {
    double lanes[8] = {0}, energy = 0;
    for (int i = 0; i < width; i += 8)
        for (int j = 0; j < 8; j++) {
            float integer = rounded(run[i + j] * factor);
            uint32_t word = word_of(integer) ^ ((uint32_t)signs[i / 8] << (31 - j) & TOP);
            lanes[j] += (double)integer * (double)integer;
            memcpy(run + i + j, &word, sizeof word);
        }
    for (int j = 0; j < 8; j++) energy += lanes[j];
    return energy;
}

/* Levels in place of coefficients; sums of their magnitudes and of coefficient * level. */
VECTORISED static void to_levels(float *restrict run, int width, double step, double *total,
                                 double *inner) {
    double sums[8] = {0}, products[8] = {0};
    for (int i = 0; i < width; i += 8)
        for (int j = 0; j < 8; j++) {
            double level = rounded_double((double)run[i + j] / step);
            sums[j] += level < 0 ? -level : level;
            products[j] += level * (double)run[i + j];
            run[i + j] = (float)level;
        }
    *total = *inner = 0;
    for (int j = 0; j < 8; j++) {
        *total += sums[j];
        *inner += products[j];
    }
}

static int is_width(int width) {
    if (width >= 8 && width <= 4096 && !(width & (width - 1))) return 1;
    PyErr_SetString(PyExc_ValueError, "runs of an impossible number of weights");
    return 0;
}

const char ftt_spin_doc[] =
    "spin(weights, width, peak, least, signs, factors, energies) -> None\n\n"
    "Runs of `width` (a power of two, 8 to 4096) float32 weights become H S x in place, x being the\n"
    "weights as integers of at most `peak` <= 4095: x = round(weight * factor), with a factor\n"
    "(float32) and the sum of x * x (float64) a run, and a bit a weight, set for minus. The factor\n"
    "is 0 where no weight of a run is above `least`.";

PyObject *ftt_spin(PyObject *Py_UNUSED(self), PyObject *args) {
    Py_buffer v[4];
    int width;
    float peak, least;
    if (!PyArg_ParseTuple(args, "w*iffy*w*w*", &v[0], &width, &peak, &least, &v[1], &v[2], &v[3]))
        return NULL;
    Py_ssize_t number = v[2].len / 4;
    if (!(is_width(width) && fits(&v[2], 4, number) && fits(&v[0], 4, number * width) &&
          fits(&v[1], 1, number * width / 8) && fits(&v[3], 8, number))) {
        release(v, 4);
        return NULL;
    }
    const uint8_t *signs = v[1].buf;
    float *factors = v[2].buf;
    double *energies = v[3].buf;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t run = 0; run < number; run++) {
        float *here = (float *)v[0].buf + run * width;
        float most = largest(here, width);
        factors[run] = most > least ? peak / most : 0.0f;
        energies[run] = to_integers(here, width, factors[run], signs + run * width / 8);
        if (energies[run] > 0) hadamard(here, width);
    }
    Py_END_ALLOW_THREADS
    release(v, 4);
    Py_RETURN_NONE;
}

const char ftt_level_doc[] =
    "level(coefficients, width, steps, inner) -> float\n\n"
    "Runs of `width` float32 coefficients become levels, round(coefficient / step), in place: a step\n"
    "(float64) a run; `inner` (float64) takes the sums of coefficient * level. Returns the largest sum\n"
    "of magnitudes of levels in a run; all is exact where that is below 2^24.";

PyObject *ftt_level(PyObject *Py_UNUSED(self), PyObject *args) {
    Py_buffer v[3];
    int width;
    if (!PyArg_ParseTuple(args, "w*iy*w*", &v[0], &width, &v[1], &v[2])) return NULL;
    Py_ssize_t number = v[1].len / 8;
    if (!(is_width(width) && fits(&v[1], 8, number) && fits(&v[0], 4, number * width) &&
          fits(&v[2], 8, number))) {
        release(v, 3);
        return NULL;
    }
    const double *steps = v[1].buf;
    double *inner = v[2].buf, most = 0, total;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t run = 0; run < number; run++) {
        to_levels((float *)v[0].buf + run * width, width, steps[run], &total, &inner[run]);
        most = total <= most ? most : total; /* NaN too */
    }
    Py_END_ALLOW_THREADS
    release(v, 3);
    return PyFloat_FromDouble(most);
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
    if (!(is_width(width) && fits(&v[1], 4, number) && fits(&v[0], 4, number * width) &&
          fits(&v[2], 1, number * width / 8))) {
        release(v, 3);
        return NULL;
    }
    float *levels = v[0].buf;
    const float *gains = v[1].buf;
    const uint8_t *signs = v[2].buf;
    double most = 0;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t run = 0; run < number && most < 16777216.0; run++) {
        float *here = levels + run * width;
        double sum = magnitudes(here, width);
        if (!(sum < 16777216.0)) { /* NaN too */
            most = 16777216.0;
            break;
        }
        most = sum > most ? sum : most;
        if (sum > 0) {
            hadamard(here, width);
            scale(here, width, gains[run], signs + run * width / 8);
        }
    }
    Py_END_ALLOW_THREADS
    release(v, 3);
    return PyFloat_FromDouble(most);
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
