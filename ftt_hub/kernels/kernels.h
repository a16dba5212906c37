/* What the files of `ftt_hub.kernels.compiled` share: BF16, buffers, vector instructions. */

#ifndef FTT_HUB_KERNELS_H
#define FTT_HUB_KERNELS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>
#ifdef _MSC_VER
#define restrict __restrict
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "written for little-endian machines; the package works without this module"
#endif

#define ROW 2048 /* elements; even ones and odd ones have accumulators of their own */
#define SIGN 0x8000u
#define INFINITE 0x7F80u

/* One binary for all machines of a kind: the fastest of these versions is taken when it is loaded. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define VECTORISED __attribute__((target_clones("arch=skylake-avx512", "avx2", "default")))
#else
#define VECTORISED
#endif

/* What Python sees, each with its documentation. */
#define FUNCTION(name)                                 \
    extern const char ftt_##name##_doc[];              \
    PyObject *ftt_##name(PyObject *self, PyObject *args);
FUNCTION(subtract)
FUNCTION(count_unequal)
FUNCTION(add)
FUNCTION(places)
FUNCTION(sums)
FUNCTION(to_symbols)
FUNCTION(from_symbols)
FUNCTION(count)
FUNCTION(spin)
FUNCTION(level)
FUNCTION(turn)
FUNCTION(narrow)
#undef FUNCTION

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

/* 0 with an exception where a buffer is not `count` elements of `size` bytes. */
static inline int fits(const Py_buffer *view, Py_ssize_t size, Py_ssize_t count) {
    if ((uintptr_t)view->buf % (uintptr_t)size != 0) {
        PyErr_SetString(PyExc_ValueError, "a buffer that is not aligned");
        return 0;
    }
    if (view->len == size * count) return 1;
    PyErr_Format(PyExc_ValueError, "a buffer of %zd bytes where %zd are needed", view->len,
                 size * count);
    return 0;
}

static inline void release(Py_buffer *views, int count) {
    for (int i = 0; i < count; i++) PyBuffer_Release(&views[i]);
}

#endif
