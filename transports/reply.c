/* ReplyBase: the C part of a pending answer, which Inbox.collect fills and Python subclasses.

Rule: `kind` is written last; whoever sees it >= 0 finds the rest. An asker that wants to be told publishes its wish
(`waitfd`, or a callback in `cbs`) and then looks at `kind` again; the collector does it the other way round, both under
the GIL.

A reply whose body is elsewhere (kept by the guardian) is reported in `fire` as one with callbacks is, so that the body is
fetched when the answer comes: it belongs to the reply from then on, and goes with it.

Decoding is not done here but in the asker's frame, so that its errors are raised there. */

#include "binding.h"

static PyObject *reply_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    Reply *self = (Reply *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (self)
        self->kind = self->waitfd = -1;
    return (PyObject *)self;
}

static int reply_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((Reply *)object)->body);
    Py_VISIT(((Reply *)object)->cbs);
    return 0;
}

static int reply_clear(PyObject *object)
{
    Py_CLEAR(((Reply *)object)->body);
    Py_CLEAR(((Reply *)object)->cbs);
    return 0;
}

static void reply_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    reply_clear(object);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

bool reply_fill(Reply *self, const struct view *v, PyObject *fire)
{
    const struct record *q = v->record;
    PyObject *body = PyBytes_FromStringAndSize((const char *)(q + 1), v->length);
    bool told = (self->cbs && self->cbs != Py_None) || q->flags & RECORD_ELSEWHERE;
    if (!body || (told && PyList_Append(fire, (PyObject *)self))) {
        Py_XDECREF(body);
        return false;
    }
    PyObject *before = self->body;
    self->body = body;
    self->flags = q->flags;
    self->sender = q->sender;
    self->kind = q->kind;
    Py_XDECREF(before); /* a bytes or None in all sane uses */
    return true;
}

void reply_wake(const Reply *self)
{
    uint64_t one = 1;
    if (self->waitfd >= 0 && write(self->waitfd, &one, sizeof one) < 0)
        errno = 0; /* EAGAIN: told often enough */
}

static PyMemberDef reply_members[] = {
    {"kind", T_INT, offsetof(Reply, kind), 0, NULL},
    {"flags", T_INT, offsetof(Reply, flags), 0, NULL},
    {"sender", T_ULONGLONG, offsetof(Reply, sender), 0, NULL},
    {"body", T_OBJECT, offsetof(Reply, body), 0, NULL},
    {"cbs", T_OBJECT, offsetof(Reply, cbs), 0, NULL},
    {"waitfd", T_INT, offsetof(Reply, waitfd), 0, NULL},
    {0},
};

static PyType_Slot reply_slots[] = {
    {Py_tp_new, reply_new},     {Py_tp_dealloc, reply_dealloc}, {Py_tp_traverse, reply_traverse},
    {Py_tp_clear, reply_clear}, {Py_tp_members, reply_members}, {0},
};

static PyType_Spec reply_spec = {
    "actors.transports._ring.ReplyBase",
    sizeof(Reply),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    reply_slots,
};

PyTypeObject *reply_register(PyObject *module)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromSpec(&reply_spec);
    return type && !PyModule_AddType(module, type) ? type : NULL;
}
