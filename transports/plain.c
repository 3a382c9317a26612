/* is_plain(): may this value go by msgpack as it is, without a hook, and come back equal in type and value?

Rule: exact types only (a subclass of int or str would come back as its base), integers that msgpack has a form for
(-2**63 to 2**64 - 1), strings that UTF-8 can carry (no lone surrogates), bytes that are not LARGE (those go beside the
message), and at most 100 containers inside each other,
which also ends every cycle.

No Python code is run: a value can't change while it is looked at. */

#include "binding.h"

enum { DEPTH = 100 };

static bool plain_int(PyObject *value)
{
    int overflow;
    long long small = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (!overflow)
        return small != -1 || !PyErr_Occurred();
    if (overflow < 0)
        return false;
    if (PyLong_AsUnsignedLongLong(value) != (unsigned long long)-1 || !PyErr_Occurred())
        return true;
    PyErr_Clear();
    return false;
}

static bool plain_str(PyObject *value)
{
    Py_ssize_t size;
    if (PyUnicode_AsUTF8AndSize(value, &size)) /* kept in the string; the packer takes the same */
        return true;
    PyErr_Clear();
    return false;
}

static bool plain_list(PyObject *value, int depth)
{
    Py_ssize_t size = PyList_Size(value);
    for (Py_ssize_t i = 0; i < size; i++)
        if (!plain(PyList_GetItem(value, i), depth))
            return false;
    return true;
}

static bool plain_dict(PyObject *value, int depth)
{
    PyObject *key, *item;
    Py_ssize_t position = 0;
    while (PyDict_Next(value, &position, &key, &item))
        if (!plain(key, depth) || !plain(item, depth))
            return false;
    return true;
}

bool plain(PyObject *value, int depth)
{
    PyTypeObject *type = Py_TYPE(value);
    if (value == Py_None || type == &PyBool_Type || type == &PyFloat_Type)
        return true;
    if (type == &PyBytes_Type)
        return PyBytes_Size(value) < LARGE;
    if (type == &PyUnicode_Type)
        return plain_str(value);
    if (type == &PyLong_Type)
        return plain_int(value);
    if (type == &PyList_Type)
        return depth < DEPTH && plain_list(value, depth + 1);
    return type == &PyDict_Type && depth < DEPTH && plain_dict(value, depth + 1);
}

static PyObject *is_plain(PyObject *Py_UNUSED(module), PyObject *value)
{
    return PyBool_FromLong(plain(value, 0));
}

PyMethodDef plain_methods[] = {{"is_plain", is_plain, METH_O, NULL}, {0}};
