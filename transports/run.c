/* Inbox.run(): the loop of an actor that handles one message at a time, as far as it needs no Python of ours.

Rule: a call without flags and deadline, of a method that was called before, is decoded, called and finished here. Everything
else goes back to the caller, with the record in hand: other messages, what a handler returned to an ask, coroutines, what a
handler raised. So the rules of actors/loop.py are written once, there; here is what happens a million times.

A handler is foreign code: it may collect() and send, but there is one run() an inbox at a time.

Rejected: a callback for answers (they need the codec, and cost as much either way). */

#include "binding.h"

/* What a body is decoded with, whom a name means, and news that wait. */
struct means {
    PyObject *unpack, *options, *methods, *news;
};

/* Can it be neither awaited nor anything that somebody waits for? */
static bool inert(PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    return value == Py_None || type == &PyLong_Type || type == &PyBool_Type || type == &PyUnicode_Type ||
           type == &PyFloat_Type || type == &PyList_Type || type == &PyDict_Type || type == &PyTuple_Type ||
           type == &PyBytes_Type || type == &PySet_Type;
}

static PyObject *as_tuple(const struct view *v)
{
    PyObject *tuple = PyTuple_New(8);
    if (tuple && !record_fill(tuple, v))
        Py_CLEAR(tuple);
    return tuple;
}

/* items[1:], as arguments */
static PyObject *arguments(PyObject *call)
{
    Py_ssize_t size = PyList_Size(call);
    PyObject *tuple = PyTuple_New(size - 1);
    for (Py_ssize_t i = 1; tuple && i < size; i++)
        PyTuple_SetItem(tuple, i - 1, Py_NewRef(PyList_GetItem(call, i)));
    return tuple;
}

/* What the handler of this body returned, a new reference. NULL without an exception: Python must look for it. */
static PyObject *handle(const struct means *by, PyObject *body)
{
    PyObject *packed = PyTuple_Pack(1, body), *value = NULL;
    PyObject *call = packed ? PyObject_Call(by->unpack, packed, by->options) : NULL;
    Py_XDECREF(packed);
    if (call && PyList_Check(call) && PyList_Size(call) > 0) {
        PyObject *method = PyDict_GetItemWithError(by->methods, PyList_GetItem(call, 0));
        if (method) {
            Py_INCREF(method);
            PyObject *given = arguments(call);
            Py_CLEAR(call); /* the arguments are the handler's alone */
            value = given ? PyObject_Call(method, given, NULL) : NULL;
            Py_XDECREF(given);
            Py_DECREF(method);
        }
    }
    Py_XDECREF(call);
    return value;
}

/* Take the message that was seen. 1: it is handled, or its sender took it back; 0: `result` is the caller's to see to; -1: an
   exception. */
static int step(Inbox *self, const struct means *by, PyObject **result)
{
    struct ring *mail = &self->rings[MAIL]->r;
    struct view v;
    int found = ring_peek(mail, &v);
    if (found == RING_CORRUPT) {
        corrupt(mail, "a record's header makes no sense");
        return -1;
    }
    if (found != 1)
        return 1;
    int kind = v.record->kind;
    self->left--;
    self->caller = v.record->sender;
    if (v.record->flags || v.record->deadline || (kind != TELL && kind != ASK)) {
        *result = inbox_take(self);
        return *result ? 0 : PyErr_Occurred() ? -1 : 1;
    }
    PyObject *body = PyBytes_FromStringAndSize((const char *)(v.record + 1), v.length);
    if (!body)
        return -1;
    if (!ring_start(mail, &v)) {
        Py_DECREF(body);
        return 1;
    }
    self->busy = true;
    self->position = v.position;
    self->last = mail;
    PyObject *value = handle(by, body);
    Py_DECREF(body);
    if (!value) {
        *result = PyErr_Occurred() ? NULL : as_tuple(&v);
    } else if (kind == TELL && inert(value)) {
        Py_DECREF(value);
        return 1; /* signals: a handler in Python looks for them when it begins */
    } else {
        PyObject *record = as_tuple(&v);
        *result = record ? PyTuple_Pack(2, record, value) : NULL;
        Py_XDECREF(record);
        Py_DECREF(value);
    }
    return *result ? 0 : -1;
}

/* run(spin, unpack, options, methods, news) */
PyObject *inbox_run(PyObject *object, PyObject *const *args, Py_ssize_t n)
{
    Inbox *self = (Inbox *)object;
    if (!arity("run", n, 5))
        return NULL;
    double spin = PyFloat_AsDouble(args[0]);
    struct means by = {args[1], args[2], args[3], args[4]};
    if (spin == -1.0 && PyErr_Occurred())
        return NULL;
    if (!PyDict_Check(by.options) || !PyDict_Check(by.methods) || !PyList_Check(by.news)) {
        PyErr_SetString(PyExc_TypeError, "run() takes two dicts and a list");
        return NULL;
    }
    for (;;) {
        if (!inbox_done(self))
            return NULL;
        if (self->left <= 0)
            return PyLong_FromLong(0);
        enum came came = PyList_Size(by.news) ? CAME_LANES : inbox_look(self, spin);
        if (came != CAME_MAIL)
            return came == CAME_LANES ? PyLong_FromLong(1) : Py_NewRef(Py_None);
        PyObject *result = NULL;
        int outcome = step(self, &by, &result);
        if (outcome <= 0)
            return outcome == 0 ? result : NULL;
    }
}

PyObject *inbox_current(PyObject *object, PyObject *Py_UNUSED(none))
{
    Inbox *self = (Inbox *)object;
    struct ring *mail = self->busy ? &self->rings[MAIL]->r : NULL;
    struct view v;
    if (!mail)
        Py_RETURN_NONE;
    if (!ring_view(mail, self->position, mail->next, &v))
        return corrupt(mail, "the record in hand was overwritten");
    return as_tuple(&v);
}
