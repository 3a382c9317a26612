/* The extension module and the type Ring: a mapped memfd, its consumer's methods, and the table of all others.

Rule: this layer turns Python values into C and back; what a ring does is decided in ring.h. No Python call is made
between a look at the ring and the change that follows from it: an allocation may run the garbage collector, and that
runs anybody's code.

Stable ABI (abi3): one build for Python 3.11 and all later versions. */

#include "binding.h"
#include "takers.h"

#include <fcntl.h>
#include <sys/stat.h>

#ifndef MFD_NOEXEC_SEAL /* Linux 6.3 */
#define MFD_NOEXEC_SEAL 8U
#endif

static PyObject *Corrupt;
_Atomic bool ring_found_awake;

PyObject *corrupt(const struct ring *r, const char *what)
{
    return PyErr_Format(Corrupt, "mailbox corrupt: %s (head %llu, tail %llu, capacity %llu)", what,
                        (unsigned long long)load(r->h->head), (unsigned long long)load(r->h->tail),
                        (unsigned long long)r->capacity);
}

bool arity(const char *name, Py_ssize_t given, Py_ssize_t wanted)
{
    if (given != wanted)
        PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments (%zd given)", name, wanted, given);
    return given == wanted;
}

/* --- create and map */

int memory_create(const char *name)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    return fd < 0 && errno == EINVAL ? memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING) : fd;
}

static bool ring_format(int fd, uint64_t capacity)
{
    struct header *h = mmap(NULL, RING_HEADER, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (h == MAP_FAILED)
        return false;
    if (madvise(h, RING_HEADER, MADV_POPULATE_WRITE) && errno != EINVAL) {
        munmap(h, RING_HEADER);
        return false;
    }
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&h->lock, &attributes);
    pthread_mutex_init(&h->takers.lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
    h->version = RING_VERSION;
    h->capacity = capacity;
    store_release(h->magic, RING_MAGIC);
    munmap(h, RING_HEADER);
    return true;
}

static PyObject *module_create(PyObject *Py_UNUSED(module), PyObject *args)
{
    unsigned long long capacity;
    const char *name = "actors";
    if (!PyArg_ParseTuple(args, "K|s:create", &capacity, &name))
        return NULL;
    if (capacity < RING_MINIMUM || capacity > RING_MAXIMUM || (capacity & (capacity - 1)))
        return PyErr_Format(PyExc_ValueError, "capacity must be a power of two from 4096 to 2**31, not %llu", capacity);
    int fd = memory_create(name);
    if (fd < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    if (ftruncate(fd, (off_t)(RING_HEADER + capacity)) || !ring_format(fd, capacity) ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
        PyErr_SetFromErrno(PyExc_OSError);
        close(fd);
        return NULL;
    }
    return PyLong_FromLong(fd);
}

/* The header, then the data twice in a row, so that no record is ever split. MAP_FAILED with errno. */
static char *map_twice(int fd, uint64_t capacity)
{
    size_t size = RING_HEADER + 2 * capacity;
    char *p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return p;
    int prot = PROT_READ | PROT_WRITE, how = MAP_SHARED | MAP_FIXED;
    if (mmap(p, RING_HEADER + capacity, prot, how, fd, 0) == MAP_FAILED ||
        mmap(p + RING_HEADER + capacity, capacity, prot, how, fd, RING_HEADER) == MAP_FAILED) {
        int saved = errno;
        munmap(p, size);
        errno = saved;
        return MAP_FAILED;
    }
    return p;
}

/* What is wrong with the descriptor, NULL if nothing; *capacity is set. */
static const char *refuse(int fd, uint64_t *capacity)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (fstat(fd, &st) || seals < 0 || (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW))
        return "not sealed against resizing"; /* whoever could shrink it could kill its readers with SIGBUS */
    *capacity = (uint64_t)st.st_size - RING_HEADER;
    if (st.st_size <= RING_HEADER || *capacity < RING_MINIMUM || *capacity > RING_MAXIMUM ||
        (*capacity & (*capacity - 1)))
        return "wrong size";
    return NULL;
}

static PyObject *ring_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    int fd, bell = -1, owns = 0;
    uint64_t capacity;
    if (kwargs && PyDict_Size(kwargs)) {
        PyErr_SetString(PyExc_TypeError, "Ring() takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "i|ip:Ring", &fd, &bell, &owns))
        return NULL;
    const char *wrong = refuse(fd, &capacity);
    if (wrong)
        return PyErr_Format(PyExc_ValueError, "descriptor %d is not a ring: %s", fd, wrong);
    char *p = map_twice(fd, capacity);
    if (p == MAP_FAILED)
        return PyErr_SetFromErrno(PyExc_OSError);
    struct header *h = (struct header *)p;
    wrong = load_acquire(h->magic) != RING_MAGIC ? "wrong magic"
            : h->version != RING_VERSION         ? "made by an incompatible version"
            : h->capacity != capacity            ? "its header states another capacity"
                                                 : NULL;
    Ring *self = wrong ? NULL : (Ring *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self) {
        munmap(p, RING_HEADER + 2 * capacity);
        return wrong ? PyErr_Format(PyExc_ValueError, "descriptor %d is not a ring: %s", fd, wrong) : NULL;
    }
    self->r = (struct ring){.h = h, .data = p + RING_HEADER, .capacity = capacity, .mask = capacity - 1, .bell = bell};
    self->r.seen_head = load_acquire(h->head);
    self->owns = owns;
    ring_rewind(&self->r);
    return (PyObject *)self;
}

static void ring_dealloc(PyObject *object)
{
    Ring *self = (Ring *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->r.h)
        munmap(self->r.h, RING_HEADER + 2 * self->r.capacity);
    if (self->owns && self->r.bell >= 0)
        close(self->r.bell);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

/* --- the consumer */

bool record_fill(PyObject *tuple, const struct view *v)
{
    const struct record *q = v->record;
    PyObject *items[8] = {
        PyLong_FromLong(q->kind),
        PyLong_FromLong(q->flags),
        PyLong_FromUnsignedLongLong(q->sender),
        PyLong_FromUnsignedLongLong(q->corr),
        PyLong_FromUnsignedLongLong(q->deadline),
        PyLong_FromUnsignedLong(load(q->state) >> 8),
        PyLong_FromUnsignedLongLong(v->position),
        PyBytes_FromStringAndSize((const char *)(q + 1), v->length),
    };
    bool whole = true;
    for (int i = 0; i < 8; i++) {
        whole = whole && items[i];
        PyTuple_SetItem(tuple, i, items[i]);
    }
    return whole;
}

PyObject *record_take(Ring *self, uint64_t *position)
{
    struct ring *r = &self->r;
    struct view v;
    while (ring_available(r)) {
        PyObject *tuple = PyTuple_New(8); /* before the look: it may run the garbage collector */
        if (!tuple)
            return NULL;
        int found = ring_peek(r, &v);
        bool filled = found == 1 && record_fill(tuple, &v);
        if (filled && ring_start(r, &v)) {
            *position = v.position;
            return tuple;
        }
        Py_DECREF(tuple);
        if (found == RING_CORRUPT)
            return corrupt(r, "a record's header makes no sense");
        if (found == 1 && !filled)
            return NULL;
    }
    return NULL;
}

static PyObject *ring_take(PyObject *self, PyObject *Py_UNUSED(none))
{
    uint64_t position;
    PyObject *record = record_take((Ring *)self, &position);
    if (!record && !PyErr_Occurred())
        Py_RETURN_NONE;
    return record;
}

static PyObject *ring_finished(PyObject *self, PyObject *argument)
{
    struct ring *r = &((Ring *)self)->r;
    uint64_t position = PyLong_AsUnsignedLongLong(argument);
    if (position == (uint64_t)-1 && PyErr_Occurred())
        return NULL;
    if (!ring_done(r, position))
        return corrupt(r, "a record in hand was overwritten");
    Py_RETURN_NONE;
}

/* --- attributes */

static PyObject *get_capacity(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(((Ring *)self)->r.capacity);
}

static PyObject *get_closed(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(load(((Ring *)self)->r.h->closed));
}

static PyObject *get_waiting(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(load(((Ring *)self)->r.h->waiting));
}

static PyObject *get_tail(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(load_acquire(((Ring *)self)->r.h->tail));
}

static PyObject *get_reading(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(((Ring *)self)->r.next);
}

static int set_waiting(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    uint64_t uid = value ? PyLong_AsUnsignedLongLong(value) : 0;
    if (uid == (uint64_t)-1 && PyErr_Occurred())
        return -1;
    store(((Ring *)self)->r.h->waiting, uid);
    return 0;
}

static PyObject *get_local_since(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(load(((Ring *)self)->r.h->local_since));
}

static int set_local_since(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    uint64_t since = value ? PyLong_AsUnsignedLongLong(value) : 0;
    if (since == (uint64_t)-1 && PyErr_Occurred())
        return -1;
    store(((Ring *)self)->r.h->local_since, since);
    return 0;
}

static PyGetSetDef ring_attributes[] = {
    {"capacity", get_capacity, NULL, NULL, NULL},
    {"closed", get_closed, NULL, NULL, NULL},
    {"waiting", get_waiting, set_waiting, NULL, NULL},
    {"tail", get_tail, NULL, NULL, NULL},
    {"reading", get_reading, NULL, NULL, NULL},
    {"local_since", get_local_since, set_local_since, NULL, NULL},
    {0},
};

static PyMemberDef ring_members[] = {{"bell", T_INT, offsetof(Ring, r.bell), 0, NULL}, {0}};

#ifdef RING_FAULTS
static PyObject *ring_fault(PyObject *self, PyObject *point)
{
    ((Ring *)self)->r.fault = (int)PyLong_AsLong(point);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}
#endif

static PyMethodDef ring_methods[] = {
    FAST("push", producer_push),
    FAST("tell", producer_tell),
    FAST("answer", producer_answer),
    FAST("put", producer_put),
    FAST("cancel", producer_cancel),
    {"take", ring_take, METH_NOARGS, NULL},
    {"done", ring_finished, METH_O, NULL},
    {"grant", owner_grant, METH_O, NULL},
    {"claim", owner_claim, METH_O, NULL},
    {"revoke", owner_revoke, METH_O, NULL},
    FAST("in_hand", owner_in_hand),
    FAST("sweep", owner_sweep),
    {"owed", owner_owed, METH_NOARGS, NULL},
    {"ring", owner_ring, METH_NOARGS, NULL},
    FAST("close", owner_close),
    {"reopen", owner_reopen, METH_NOARGS, NULL},
    {"quiet", owner_quiet, METH_NOARGS, NULL},
    {"owner", owner_owner, METH_NOARGS, NULL},
    {"stats", owner_stats, METH_NOARGS, NULL},
    FAST("join", taker_join),
    {"leave", taker_leave, METH_NOARGS, NULL},
    {"abandon", taker_abandon, METH_NOARGS, NULL},
    FAST("get", taker_get),
    FAST("end", taker_end),
    {"give_back", taker_give_back, METH_O, NULL},
    {"waits", taker_waits, METH_NOARGS, NULL},
    {"poll", taker_poll, METH_NOARGS, NULL},
    {"task_done", taker_task_done, METH_NOARGS, NULL},
    {"finished", taker_finished, METH_O, NULL},
    {"reclaim", taker_reclaim, METH_O, NULL},
    {"rouse", taker_rouse, METH_NOARGS, NULL},
    {"keeper", taker_keeper, METH_NOARGS, NULL},
#ifdef RING_FAULTS
    {"fault", ring_fault, METH_O, NULL},
#endif
    {0},
};

static PyType_Slot ring_slots[] = {
    {Py_tp_new, ring_new},           {Py_tp_dealloc, ring_dealloc}, {Py_tp_methods, ring_methods},
    {Py_tp_getset, ring_attributes}, {Py_tp_members, ring_members}, {0},
};

static PyType_Spec ring_spec = {"actors.transports._ring.Ring", sizeof(Ring), 0, Py_TPFLAGS_DEFAULT, ring_slots};

/* --- the module */

static PyMethodDef module_methods[] = {{"create", module_create, METH_VARARGS, NULL}, {0}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_ring", "Shared-memory rings; see _ring.pyi.", -1, module_methods, NULL, NULL, NULL, NULL,
};

static bool add_constants(PyObject *module)
{
    return !PyModule_AddIntConstant(module, "FULL", RING_FULL) &&
           !PyModule_AddIntConstant(module, "CLOSED", RING_CLOSED) &&
           !PyModule_AddIntConstant(module, "STUCK", RING_STUCK) &&
           !PyModule_AddIntConstant(module, "NOMEM", RING_NOMEM) &&
           !PyModule_AddIntConstant(module, "EMPTY", RING_EMPTY) &&
           !PyModule_AddIntConstant(module, "LEFT", RING_LEFT) &&
           !PyModule_AddIntConstant(module, "HEADER", RING_HEADER) &&
           !PyModule_AddIntConstant(module, "SLOT", RING_SLOT) &&
           !PyModule_AddIntConstant(module, "LARGE", LARGE) &&
           !PyModule_AddIntConstant(module, "RECORD", sizeof(struct record));
}

/* `name` = tuple[int, ..., int, bytes] with so many int: the stub's aliases exist at run time as well. */
static bool add_alias(PyObject *module, const char *name, Py_ssize_t ints)
{
    PyObject *items = PyTuple_New(ints + 1);
    for (Py_ssize_t i = 0; items && i <= ints; i++)
        PyTuple_SetItem(items, i, Py_NewRef((PyObject *)(i < ints ? &PyLong_Type : &PyBytes_Type)));
    PyObject *alias = items ? Py_GenericAlias((PyObject *)&PyTuple_Type, items) : NULL;
    bool added = alias && !PyModule_AddObjectRef(module, name, alias);
    Py_XDECREF(alias);
    Py_XDECREF(items);
    return added;
}

PyMODINIT_FUNC PyInit__ring(void)
{
    PyObject *module = PyModule_Create(&definition);
    PyTypeObject *ring_type = (PyTypeObject *)PyType_FromSpec(&ring_spec);
    PyTypeObject *reply_type = module ? reply_register(module) : NULL;
    Corrupt = PyErr_NewException("actors.transports._ring.Corrupt", PyExc_RuntimeError, NULL);
    if (!module || !ring_type || !reply_type || !Corrupt || !add_constants(module) || !add_alias(module, "Record", 7) ||
        !add_alias(module, "News", 4) || PyModule_AddObjectRef(module, "Corrupt", Corrupt) ||
        PyModule_AddType(module, ring_type) || !inbox_register(module, ring_type, reply_type) ||
        PyModule_AddFunctions(module, process_methods) || PyModule_AddFunctions(module, plain_methods) ||
        PyModule_AddFunctions(module, number_functions) || PyModule_AddFunctions(module, segment_functions) ||
        !segment_register(module) || !sync_register(module)) {
        Py_XDECREF(module);
        return NULL;
    }
    return module;
}
