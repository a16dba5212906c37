/* 16-bit values as bytes, by tables (`ftt_hub.codecs.symbols`). */

#include "kernels.h"
#ifdef _MSC_VER
#include <intrin.h>
#endif

static inline int first_bit(uint64_t word) {
#ifdef _MSC_VER
    unsigned long place;
    _BitScanForward64(&place, word);
    return (int)place;
#else
    return __builtin_ctzll(word);
#endif
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

const char ftt_to_symbols_doc[] =
    "to_symbols(values, table, symbol, out, rest) -> int\n\n"
    "Out[i] = table[values[i]]: 16-bit values to bytes, by a table of 65,536 bytes. Those that become\n"
    "the given symbol are copied to the front of rest, which has room for all; their number.";

PyObject *ftt_to_symbols(PyObject *Py_UNUSED(self), PyObject *args) {
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

const char ftt_from_symbols_doc[] =
    "from_symbols(symbols, table, pairs, symbol, rest, out) -> None\n\n"
    "Out[i] = table[symbols[i]]: bytes to 16-bit values, by a table of 256 of them; but for the given\n"
    "symbol the values of rest, in order, of which the last is not used. Pairs, where it is not empty,\n"
    "takes two symbols as a 16-bit number to their two values, uint32: twice as fast.";

PyObject *ftt_from_symbols(PyObject *Py_UNUSED(self), PyObject *args) {
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

const char ftt_count_doc[] = "count(symbols, symbol) -> int\n\nHow often a symbol occurs.";

PyObject *ftt_count(PyObject *Py_UNUSED(self), PyObject *args) {
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
