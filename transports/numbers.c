/* pack_numbers(), unpack_numbers(): a list of numbers as a column of machine words, and back.

Rule: exact types only, and one for all: int from -2**63 to 2**63 - 1, or float, bit by bit. Whatever else is in the
list, it is no column, and the caller packs it in another way. A word needs no look at what it is, so that packing costs
a quarter of what the same numbers cost as messages.

A column: the letter q (int) or d (float), then the words, little-endian as every machine that the ring runs on. */

#include "binding.h"
#include <string.h>

enum { WORD = 8 };

static bool word_of(PyObject *item, PyTypeObject *type, char *word)
{
    if (Py_TYPE(item) != type)
        return false;
    if (type == &PyFloat_Type) {
        double value = PyFloat_AsDouble(item);
        memcpy(word, &value, WORD);
        return true;
    }
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(item, &overflow);
    memcpy(word, &value, WORD);
    return !overflow;
}

/* pack_numbers(list): the column, None if the list is none (or empty) */
static PyObject *pack_numbers(PyObject *Py_UNUSED(module), PyObject *list)
{
    if (!PyList_CheckExact(list))
        return PyErr_Format(PyExc_TypeError, "a list, please");
    Py_ssize_t size = PyList_Size(list);
    PyTypeObject *type = size ? Py_TYPE(PyList_GetItem(list, 0)) : NULL;
    if (type != &PyLong_Type && type != &PyFloat_Type)
        Py_RETURN_NONE;
    PyObject *column = PyBytes_FromStringAndSize(NULL, 1 + size * WORD);
    char *at = column ? PyBytes_AsString(column) : NULL;
    if (!at)
        return NULL;
    *at = type == &PyLong_Type ? 'q' : 'd';
    for (Py_ssize_t i = 0; i < size; i++) /* no Python code runs in here: the list keeps its size */
        if (!word_of(PyList_GetItem(list, i), type, at + 1 + i * WORD)) {
            Py_DECREF(column);
            Py_RETURN_NONE;
        }
    return column;
}

/* unpack_numbers(column, low, high): the numbers from `low` to `high` */
static PyObject *unpack_numbers(PyObject *Py_UNUSED(module), PyObject *args)
{
    const char *column;
    Py_ssize_t length, low, high;
    if (!PyArg_ParseTuple(args, "y#nn:unpack_numbers", &column, &length, &low, &high))
        return NULL;
    char letter = length ? *column : 0;
    if ((letter != 'q' && letter != 'd') || low < 0 || low > high || high > (length - 1) / WORD)
        return PyErr_Format(PyExc_ValueError, "no column of %zd numbers", high);
    PyObject *list = PyList_New(high - low);
    for (Py_ssize_t i = 0; list && i < high - low; i++) {
        const char *word = column + 1 + (low + i) * WORD;
        long long whole;
        double real;
        memcpy(&whole, word, WORD);
        memcpy(&real, word, WORD);
        PyObject *item = letter == 'q' ? PyLong_FromLongLong(whole) : PyFloat_FromDouble(real);
        if (!item || PyList_SetItem(list, i, item))
            Py_CLEAR(list);
    }
    return list;
}

PyMethodDef number_functions[] = {
    {"pack_numbers", pack_numbers, METH_O, NULL}, {"unpack_numbers", unpack_numbers, METH_VARARGS, NULL}, {0}};
