/* The inner loops of BF16 deltas, compiled: one pass over memory where NumPy takes five to ten.

   Each function gives the same bits as the NumPy code that calls it and that stands in for it where
   there is no compiler; tests compare the two. So sums of squares are kept in one accumulator for
   each place in a row of ROW elements, in float32, as NumPy adds rows; products and sums must not
   be fused (-ffp-contract=off, which ISO C mode implies). No function keeps state, allocates, or
   trusts a length: every buffer is measured against the others before it is touched. */

#include "kernels.h"

#define VERSION 1 /* raised with every change that the Python code must know of */
#define METHOD(name) {#name, ftt_##name, METH_VARARGS, ftt_##name##_doc}

static PyMethodDef methods[] = {
    METHOD(subtract),
    METHOD(count_unequal),
    METHOD(add),
    METHOD(places),
    METHOD(sums),
    METHOD(to_symbols),
    METHOD(from_symbols),
    METHOD(count),
    METHOD(spin),
    METHOD(level),
    METHOD(turn),
    METHOD(narrow),
    {NULL, NULL, 0, NULL},
};

static int set_up(PyObject *module) { return PyModule_AddIntConstant(module, "VERSION", VERSION); }

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)set_up}, {0, NULL}};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "compiled", .m_size = 0, .m_methods = methods, .m_slots = slots,
};

PyMODINIT_FUNC PyInit_compiled(void) { return PyModuleDef_Init(&definition); }
