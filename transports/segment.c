/* Large data: Segment (a mapped memfd), Span (a readable part of one, and the lease that keeps it), Ledger (who has a
   lease on which segment, in shared memory).

Rule: a segment may be written again only when nobody has a lease on it, and a lease is one word in the ledger. Taking
and dropping one is a compare-and-swap, so that a death at any instruction leaves a lease taken or free, never half; the
guardian sweeps the words of whoever died. A lease can be taken only by who has one already (or has the segment in its
pool), so an idle segment stays idle until its owner writes it.

A page of words a segment: it can be lent to WORDS - 1 holders at a time. Readers map read-only what they get a
read-only descriptor of, so that nobody but the owner can change data under a reader.

Rejected: a counter a segment (whose death took how much of it?); leases kept by the guardian (two messages to it for
each large one, 60 us each). */

#include "binding.h"

#include <fcntl.h>
#include <sys/stat.h>

enum { PAGE = 4096, WORDS = PAGE / 8, ALONE = 64 << 10 /* bytes that are copied without the GIL */ };

/* --- Ledger */

typedef struct {
    PyObject_HEAD _Atomic uint64_t *words;
    uint64_t segments;
} Ledger;

static PyTypeObject *ledger_type, *segment_type;

static PyObject *ledger_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    int fd;
    struct stat st;
    if (!PyArg_ParseTuple(args, "i:Ledger", &fd))
        return NULL;
    if (fstat(fd, &st))
        return PyErr_SetFromErrno(PyExc_OSError);
    int seals = fcntl(fd, F_GET_SEALS);
    if (st.st_size < PAGE || st.st_size % PAGE || seals < 0 || !(seals & F_SEAL_SHRINK))
        return PyErr_Format(PyExc_ValueError, "descriptor %d is no ledger", fd);
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return PyErr_SetFromErrno(PyExc_OSError);
    Ledger *self = (Ledger *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self) {
        munmap(p, (size_t)st.st_size);
        return NULL;
    }
    self->words = p;
    self->segments = (uint64_t)st.st_size / PAGE;
    return (PyObject *)self;
}

static void ledger_dealloc(PyObject *object)
{
    Ledger *self = (Ledger *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->words)
        munmap((void *)self->words, self->segments * PAGE);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

/* The words of a segment; NULL with ValueError: there is no such segment. */
static _Atomic uint64_t *page_of(const Ledger *self, unsigned long long index)
{
    if (index < self->segments)
        return self->words + index * WORDS;
    PyErr_Format(PyExc_ValueError, "the ledger has no segment %llu", index);
    return NULL;
}

/* The slot that now holds `word`, or -1: all are taken. */
static int take(_Atomic uint64_t *page, uint64_t word)
{
    for (int i = 0; i < WORDS; i++) {
        uint64_t free = 0;
        if (load(page[i]) == 0 && atomic_compare_exchange_strong(&page[i], &free, word))
            return i;
    }
    return -1;
}

static bool drop(_Atomic uint64_t *page, int slot, uint64_t word)
{
    return slot >= 0 && slot < WORDS && word && atomic_compare_exchange_strong(&page[slot], &word, 0);
}

static int held(const _Atomic uint64_t *page, uint64_t word, uint64_t mask)
{
    int found = 0;
    for (int i = 0; i < WORDS; i++)
        found += word ? (load(page[i]) & mask) == word : load(page[i]) != 0;
    return found;
}

static PyObject *ledger_take(PyObject *self, PyObject *args)
{
    unsigned long long index, word;
    if (!PyArg_ParseTuple(args, "KK:take", &index, &word))
        return NULL;
    _Atomic uint64_t *page = page_of((Ledger *)self, index);
    return page ? PyLong_FromLong(take(page, word)) : NULL;
}

static PyObject *ledger_drop(PyObject *self, PyObject *args)
{
    unsigned long long index, word;
    int slot;
    if (!PyArg_ParseTuple(args, "KiK:drop", &index, &slot, &word))
        return NULL;
    _Atomic uint64_t *page = page_of((Ledger *)self, index);
    return page ? PyBool_FromLong(drop(page, slot, word)) : NULL;
}

static PyObject *ledger_held(PyObject *self, PyObject *args)
{
    unsigned long long index, word = 0, mask = UINT64_MAX;
    if (!PyArg_ParseTuple(args, "K|KK:held", &index, &word, &mask))
        return NULL;
    _Atomic uint64_t *page = page_of((Ledger *)self, index);
    return page ? PyLong_FromLong(held(page, word, mask)) : NULL;
}

/* [(slot, word), ...] */
static PyObject *ledger_words(PyObject *self, PyObject *args)
{
    unsigned long long index;
    if (!PyArg_ParseTuple(args, "K:words", &index))
        return NULL;
    _Atomic uint64_t *page = page_of((Ledger *)self, index);
    PyObject *found = page ? PyList_New(0) : NULL;
    for (int i = 0; found && i < WORDS; i++) {
        unsigned long long word = load(page[i]);
        PyObject *pair = word ? Py_BuildValue("(iK)", i, word) : NULL;
        if (word && (!pair || PyList_Append(found, pair)))
            Py_CLEAR(found);
        Py_XDECREF(pair);
    }
    return found;
}

static PyMethodDef ledger_methods[] = {
    {"words", ledger_words, METH_VARARGS, NULL},
    {"take", ledger_take, METH_VARARGS, NULL},
    {"drop", ledger_drop, METH_VARARGS, NULL},
    {"held", ledger_held, METH_VARARGS, NULL},
    {0},
};

static PyType_Slot ledger_slots[] = {
    {Py_tp_new, ledger_new}, {Py_tp_dealloc, ledger_dealloc}, {Py_tp_methods, ledger_methods}, {0}};
static PyType_Spec ledger_spec = {"actors.transports._ring.Ledger", sizeof(Ledger), 0, Py_TPFLAGS_DEFAULT,
                                  ledger_slots};

/* --- Segment */

typedef struct {
    PyObject_HEAD char *data;
    uint64_t size, present; /* bytes from the start that have pages, as far as this process has asked for them */
    bool writable;
} Segment;

static PyObject *segment_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    int fd, writable = 0;
    struct stat st;
    if (!PyArg_ParseTuple(args, "i|p:Segment", &fd, &writable))
        return NULL;
    if (fstat(fd, &st))
        return PyErr_SetFromErrno(PyExc_OSError);
    int seals = fcntl(fd, F_GET_SEALS);
    if (st.st_size <= 0 || seals < 0 || !(seals & F_SEAL_SHRINK)) /* whoever shrank it would kill its readers */
        return PyErr_Format(PyExc_ValueError, "descriptor %d is no segment", fd);
    void *p = mmap(NULL, (size_t)st.st_size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return PyErr_SetFromErrno(PyExc_OSError);
    Segment *self = (Segment *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self) {
        munmap(p, (size_t)st.st_size);
        return NULL;
    }
    self->data = p;
    self->size = (uint64_t)st.st_size;
    self->writable = writable;
    return (PyObject *)self;
}

static void segment_dealloc(PyObject *object)
{
    Segment *self = (Segment *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->data)
        munmap(self->data, self->size);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

/* Pages for the first `length` bytes: an error where touching them would be a SIGBUS or the out-of-memory killer. */
static bool populate(Segment *self, uint64_t length)
{
    if (length <= self->present)
        return true;
    uint64_t from = self->present & ~(uint64_t)(PAGE - 1), to = (length + PAGE - 1) & ~(uint64_t)(PAGE - 1);
    if (madvise(self->data + from, (to < self->size ? to : self->size) - from, MADV_POPULATE_WRITE) && errno != EINVAL)
        return false;
    self->present = length;
    return true;
}

/* write(buffer): copy it to the start. False: no memory. */
static PyObject *segment_write(PyObject *object, PyObject *source)
{
    Segment *self = (Segment *)object;
    Py_buffer from;
    if (PyObject_GetBuffer(source, &from, PyBUF_SIMPLE))
        return NULL;
    if (!self->writable || (uint64_t)from.len > self->size) {
        PyErr_Format(PyExc_ValueError, "%zd bytes can't be written into a %s segment of %llu", from.len,
                     self->writable ? "writable" : "read-only", (unsigned long long)self->size);
        PyBuffer_Release(&from);
        return NULL;
    }
    PyThreadState *released = from.len > ALONE ? PyEval_SaveThread() : NULL;
    bool there = populate(self, (uint64_t)from.len);
    if (there)
        memcpy(self->data, from.buf, (size_t)from.len);
    if (released)
        PyEval_RestoreThread(released);
    PyBuffer_Release(&from);
    return PyBool_FromLong(there);
}

static PyObject *segment_size(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(((Segment *)self)->size);
}

static PyMethodDef segment_methods[] = {{"write", segment_write, METH_O, NULL}, {0}};
static PyGetSetDef segment_attributes[] = {{"size", segment_size, NULL, NULL, NULL}, {0}};
static PyType_Slot segment_slots[] = {{Py_tp_new, segment_new},
                                      {Py_tp_dealloc, segment_dealloc},
                                      {Py_tp_methods, segment_methods},
                                      {Py_tp_getset, segment_attributes},
                                      {0}};
static PyType_Spec segment_spec = {"actors.transports._ring.Segment", sizeof(Segment), 0, Py_TPFLAGS_DEFAULT,
                                   segment_slots};

/* --- Span */

typedef struct {
    PyObject_HEAD Segment *segment;
    Ledger *ledger;
    unsigned long long id, offset, length, word;
    int slot;
    pid_t pid; /* of who holds the lease: a forked child's copy of this object holds none */
} Span;

/* Span(segment, id, offset, length, ledger, word): takes a lease of its own, by the low half of the id. */
static PyObject *span_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *segment, *ledger;
    unsigned long long id, offset, length, word;
    if (!PyArg_ParseTuple(args, "O!KKKO!K:Span", segment_type, &segment, &id, &offset, &length, ledger_type, &ledger,
                          &word))
        return NULL;
    uint64_t size = ((Segment *)segment)->size;
    if (offset > size || length > size - offset)
        return PyErr_Format(PyExc_ValueError, "a segment of %llu bytes has no %llu at %llu", (unsigned long long)size,
                            length, offset);
    _Atomic uint64_t *page = page_of((Ledger *)ledger, id & UINT32_MAX);
    Span *self = page ? (Span *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0) : NULL;
    if (!self)
        return NULL;
    self->slot = -1;
    self->segment = (Segment *)Py_NewRef(segment);
    self->ledger = (Ledger *)Py_NewRef(ledger);
    self->id = id;
    self->offset = offset;
    self->length = length;
    self->word = word;
    self->pid = getpid();
    self->slot = take(page, word);
    if (self->slot < 0) {
        Py_DECREF(self);
        PyErr_SetString(PyExc_BufferError, "the segment has as many holders as it can have");
        return NULL;
    }
    return (PyObject *)self;
}

static void span_dealloc(PyObject *object)
{
    Span *self = (Span *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->slot >= 0 && self->ledger && self->pid == getpid())
        drop(self->ledger->words + (self->id & UINT32_MAX) * WORDS, self->slot, self->word);
    Py_XDECREF((PyObject *)self->segment);
    Py_XDECREF((PyObject *)self->ledger);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static int span_buffer(PyObject *object, Py_buffer *view, int flags)
{
    Span *self = (Span *)object;
    return PyBuffer_FillInfo(view, object, self->segment->data + self->offset, (Py_ssize_t)self->length, 1, flags);
}

static PyObject *span_number(PyObject *object, void *closure)
{
    Span *self = (Span *)object;
    unsigned long long values[] = {self->id, self->offset, self->length,
                                   (unsigned long long)(uintptr_t)(self->segment->data + self->offset)};
    return PyLong_FromUnsignedLongLong(values[(intptr_t)closure]);
}

static PyGetSetDef span_attributes[] = {
    {"id", span_number, NULL, NULL, (void *)0},
    {"offset", span_number, NULL, NULL, (void *)1},
    {"length", span_number, NULL, NULL, (void *)2},
    {"address", span_number, NULL, NULL, (void *)3},
    {0},
};
static PyType_Slot span_slots[] = {{Py_tp_new, span_new},
                                   {Py_tp_dealloc, span_dealloc},
                                   {Py_tp_getset, span_attributes},
                                   {Py_bf_getbuffer, span_buffer},
                                   {0}};
static PyType_Spec span_spec = {"actors.transports._ring.Span", sizeof(Span), 0, Py_TPFLAGS_DEFAULT, span_slots};

/* --- making them */

/* memory(size, name): a memfd of so many bytes, sealed against resizing */
static PyObject *module_memory(PyObject *Py_UNUSED(module), PyObject *args)
{
    unsigned long long size;
    const char *name;
    if (!PyArg_ParseTuple(args, "Ks:memory", &size, &name))
        return NULL;
    int fd = memory_create(name);
    if (fd < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    if (ftruncate(fd, (off_t)size) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
        PyErr_SetFromErrno(PyExc_OSError);
        close(fd);
        return NULL;
    }
    return PyLong_FromLong(fd);
}

/* address(buffer): where its bytes are */
static PyObject *module_address(PyObject *Py_UNUSED(module), PyObject *object)
{
    Py_buffer view;
    if (PyObject_GetBuffer(object, &view, PyBUF_SIMPLE))
        return NULL;
    PyObject *address = PyLong_FromUnsignedLongLong((unsigned long long)(uintptr_t)view.buf);
    PyBuffer_Release(&view);
    return address;
}

PyMethodDef segment_functions[] = {
    {"memory", module_memory, METH_VARARGS, NULL},
    {"address", module_address, METH_O, NULL},
    {0},
};

bool segment_register(PyObject *module)
{
    ledger_type = (PyTypeObject *)PyType_FromSpec(&ledger_spec);
    segment_type = (PyTypeObject *)PyType_FromSpec(&segment_spec);
    PyTypeObject *span = (PyTypeObject *)PyType_FromSpec(&span_spec);
    return ledger_type && segment_type && span && !PyModule_AddType(module, ledger_type) &&
           !PyModule_AddType(module, segment_type) && !PyModule_AddType(module, span);
}
