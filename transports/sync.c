/* Sync: one lock, semaphore, barrier or event in a page that processes share (sync.h); its Python subclasses are what
users hold.

Rule: a change of the word and of the slot is made under the GIL from the first store to the last, so a slot has one
writer however many threads and objects a process has. The GIL is released only to sleep; a sleep is a slice, after which
signals are handled and the connection is looked at. Locks and semaphores are taken and given back in permits.c; barriers
and events are Python's compare-and-swaps of the word.

An object that is not open (new, forked, or its system is gone) asks its subclass's `_reopen`, which opens it or raises;
in a thread that runs an event loop `_refuse` says whether it may block; `_tell` tells the guardian that coroutines may
have what was given back. */

#include "sync_type.h"

#include <fcntl.h>
#include <sys/stat.h>

/* --- create and map */

static PyObject *module_create_sync(PyObject *Py_UNUSED(module), PyObject *args)
{
    unsigned int kind, limit;
    int bounded;
    unsigned long long first;
    if (!PyArg_ParseTuple(args, "IIpK:create_sync", &kind, &limit, &bounded, &first))
        return NULL;
    if (kind < SYNC_LOCK || kind > SYNC_EVENT || limit > 0xffff)
        return PyErr_Format(PyExc_ValueError, "no such kind (%u), or too large a number (%u)", kind, limit);
    int fd = memory_create("actors:sync");
    if (fd < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    struct sync_page head = {.magic = SYNC_MAGIC, .version = SYNC_VERSION, .kind = kind, .limit = limit};
    head.bounded = (uint32_t)bounded;
    head.word = (uint64_t)first << sync_shift(kind);
    if (kind == SYNC_LOCK || kind == SYNC_SEMAPHORE)
        head.word |= limit * ONE;
    if (ftruncate(fd, (off_t)SYNC_SIZE) || pwrite(fd, &head, offsetof(struct sync_page, slots), 0) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
        PyErr_SetFromErrno(PyExc_OSError);
        close(fd);
        return NULL;
    }
    return PyLong_FromLong(fd);
}

static struct sync_page *map_page(int fd)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (fstat(fd, &st) || seals < 0 || !(seals & F_SEAL_SHRINK) || st.st_size != (off_t)SYNC_SIZE) {
        PyErr_Format(PyExc_ValueError, "descriptor %d is not a lock, semaphore, barrier or event", fd);
        return NULL;
    }
    struct sync_page *p = mmap(NULL, SYNC_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        PyErr_SetFromErrno(PyExc_OSError);
        return NULL;
    }
    if (load_acquire(p->magic) != SYNC_MAGIC || p->version != SYNC_VERSION || p->kind < SYNC_LOCK ||
        p->kind > SYNC_EVENT) {
        munmap(p, SYNC_SIZE);
        PyErr_Format(PyExc_ValueError, "descriptor %d was made by an incompatible version", fd);
        return NULL;
    }
    return p;
}

static void mapping_drop(struct mapping *m)
{
    if (m && --m->users == 0) {
        munmap(m->page, SYNC_SIZE);
        PyMem_Free(m);
    }
}

/* map(fd, slot): open, from now on as the process that has this slot */
static PyObject *sync_map(PyObject *object, PyObject *args)
{
    Sync *self = (Sync *)object;
    int fd;
    unsigned int slot;
    if (!PyArg_ParseTuple(args, "iI:map", &fd, &slot))
        return NULL;
    struct mapping *m = slot < SYNC_SLOTS ? PyMem_Malloc(sizeof *m) : NULL;
    if (!m)
        return slot < SYNC_SLOTS ? PyErr_NoMemory() : PyErr_Format(PyExc_ValueError, "no slot %u", slot);
    m->page = map_page(fd);
    m->users = 1;
    if (!m->page) {
        PyMem_Free(m);
        return NULL;
    }
    mapping_drop(self->mapping); /* a thread that sleeps in the old one still has it */
    self->mapping = m;
    self->s = (struct sync){.p = m->page, .mine = &m->page->slots[slot], .slot = slot, .shift = sync_shift(m->page->kind)};
    self->open = 1;
    Py_RETURN_NONE;
}

/* shut(): not open any more; those who sleep look at once */
static PyObject *sync_shut(PyObject *object, PyObject *Py_UNUSED(none))
{
    Sync *self = (Sync *)object;
    if (self->open) {
        self->open = 0;
        sync_wake(&self->s, INT_MAX);
    }
    Py_RETURN_NONE;
}

static void sync_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    mapping_drop(((Sync *)object)->mapping);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

/* --- what the subclass is asked */

bool sync_call(Sync *self, const char *method)
{
    PyObject *said = PyObject_CallMethod((PyObject *)self, method, NULL);
    Py_XDECREF(said);
    return said != NULL;
}

void sync_tell(Sync *self, uint32_t permits)
{
    PyObject *kind, *value, *traceback;
    PyErr_Fetch(&kind, &value, &traceback);
    PyObject *said = PyObject_CallMethod((PyObject *)self, "_tell", "I", permits);
    if (!said)
        PyErr_WriteUnraisable((PyObject *)self);
    Py_XDECREF(said);
    PyErr_Restore(kind, value, traceback);
}

/* --- waiting */

int sync_doze(Sync *self, uint64_t seen, uint64_t ns)
{
    struct sync s = self->s;
    struct mapping *m = self->mapping;
    m->users++;
    PyThreadState *released = PyEval_SaveThread();
    int said = sync_sleep(&s, seen, ns < SYNC_SLICE ? ns : SYNC_SLICE);
    PyEval_RestoreThread(released);
    mapping_drop(m);
    return said;
}

/* --- for barriers and events */

/* change(seen, fields, held): the compare-and-swap */
static PyObject *sync_swap(PyObject *object, PyObject *const *args, Py_ssize_t n)
{
    Sync *self = (Sync *)object;
    if (!arity("change", n, 3) || !sync_ready(self))
        return NULL;
    unsigned long long seen = PyLong_AsUnsignedLongLong(args[0]), fields = PyLong_AsUnsignedLongLong(args[1]);
    unsigned long held = PyLong_AsUnsignedLong(args[2]);
    if (PyErr_Occurred())
        return NULL;
    return PyBool_FromLong(sync_change(&self->s, seen, fields, (uint32_t)held));
}

/* sleep(seen, seconds): a slice at most, until the word is not `seen` any more */
static PyObject *sync_sleep_method(PyObject *object, PyObject *const *args, Py_ssize_t n)
{
    Sync *self = (Sync *)object;
    if (!arity("sleep", n, 2) || !sync_ready(self))
        return NULL;
    unsigned long long seen = PyLong_AsUnsignedLongLong(args[0]);
    double seconds = PyFloat_AsDouble(args[1]);
    if (PyErr_Occurred())
        return NULL;
    int said = sync_doze(self, seen, seconds >= 0 && seconds <= 1 ? (uint64_t)(seconds * 1e9) : SYNC_SLICE);
    if (PyErr_CheckSignals() || (!self->open && !(sync_call(self, "_lost") && self->open)))
        return NULL;
    return PyBool_FromLong(said == 0);
}

static PyObject *sync_wake_all(PyObject *object, PyObject *Py_UNUSED(none))
{
    Sync *self = (Sync *)object;
    if (!sync_ready(self))
        return NULL;
    sync_wake(&self->s, INT_MAX);
    uint32_t told = atomic_load(&self->s.p->doorman);
    if (told)
        sync_tell(self, told);
    Py_RETURN_NONE;
}

/* --- the guardian's */

static PyObject *sync_assign(PyObject *object, PyObject *args)
{
    unsigned int slot, owner;
    struct sync *s = &((Sync *)object)->s;
    if (!PyArg_ParseTuple(args, "II:assign", &slot, &owner))
        return NULL;
    if (!s->p || slot >= SYNC_SLOTS)
        return PyErr_Format(PyExc_ValueError, "no slot %u", slot);
    char *first = (char *)((uintptr_t)&s->p->slots[slot] & ~(uintptr_t)4095);
    if (madvise(first, 4096, MADV_POPULATE_WRITE) && errno != EINVAL) /* an error here, a SIGBUS where it is touched */
        return PyErr_SetFromErrno(PyExc_OSError);
    store(s->p->slots[slot].owner, owner);
    Py_RETURN_NONE;
}

static PyObject *sync_sweep_method(PyObject *object, PyObject *argument)
{
    Sync *self = (Sync *)object;
    unsigned long slot = PyLong_AsUnsignedLong(argument);
    if (PyErr_Occurred())
        return NULL;
    if (!self->s.p || slot >= SYNC_SLOTS)
        return PyErr_Format(PyExc_ValueError, "no slot %lu", slot);
    return PyLong_FromUnsignedLong(sync_sweep(&self->s, (uint32_t)slot));
}

/* pass_on(permits): nobody of those who were told wants them */
static PyObject *sync_pass_on(PyObject *object, PyObject *argument)
{
    Sync *self = (Sync *)object;
    unsigned long permits = PyLong_AsUnsignedLong(argument);
    if (PyErr_Occurred() || !sync_ready(self))
        return NULL;
    if (sync_offer(&self->s, (uint32_t)permits))
        sync_unreserve(&self->s);
    Py_RETURN_NONE;
}

/* --- attributes */

static PyObject *get_word(PyObject *object, void *Py_UNUSED(closure))
{
    return sync_ready((Sync *)object) ? PyLong_FromUnsignedLongLong(sync_word(&((Sync *)object)->s)) : NULL;
}

static PyObject *get_count(PyObject *object, void *Py_UNUSED(closure))
{
    struct sync *s = &((Sync *)object)->s;
    return sync_ready((Sync *)object) ? PyLong_FromUnsignedLongLong(sync_count(s, sync_word(s))) : NULL;
}

static PyObject *get_number(PyObject *object, void *Py_UNUSED(closure))
{
    struct sync *s = &((Sync *)object)->s;
    return sync_ready((Sync *)object) ? PyLong_FromUnsignedLongLong(sync_word(s) >> s->shift) : NULL;
}

static PyObject *get_held(PyObject *object, void *Py_UNUSED(closure))
{
    Sync *self = (Sync *)object;
    return PyLong_FromUnsignedLong(self->open ? sync_held(&self->s) : 0);
}

static PyObject *get_abandoned(PyObject *object, void *Py_UNUSED(closure))
{
    Sync *self = (Sync *)object;
    return PyBool_FromLong(self->open && load(self->s.mine->abandoned));
}

/* The endpoint that changed the word last: of a lock that is taken its holder. */
static PyObject *get_owner(PyObject *object, void *Py_UNUSED(closure))
{
    struct sync *s = &((Sync *)object)->s;
    return sync_ready((Sync *)object) ? PyLong_FromUnsignedLong(load(s->p->slots[sync_word(s) & SYNC_SLOT].owner)) : NULL;
}

static PyObject *get_limit(PyObject *object, void *Py_UNUSED(closure))
{
    return sync_ready((Sync *)object) ? PyLong_FromUnsignedLong(((Sync *)object)->s.p->limit) : NULL;
}

static PyObject *get_doorman(PyObject *object, void *Py_UNUSED(closure))
{
    return sync_ready((Sync *)object) ? PyLong_FromUnsignedLong(atomic_load(&((Sync *)object)->s.p->doorman)) : NULL;
}

static int set_doorman(PyObject *object, PyObject *value, void *Py_UNUSED(closure))
{
    unsigned long waiting = value ? PyLong_AsUnsignedLong(value) : 0;
    if (PyErr_Occurred() || !sync_ready((Sync *)object))
        return -1;
    atomic_store(&((Sync *)object)->s.p->doorman, (uint32_t)waiting);
    return 0;
}

static PyGetSetDef sync_attributes[] = {
    {"word", get_word, NULL, NULL, NULL},
    {"count", get_count, NULL, NULL, NULL},
    {"number", get_number, NULL, NULL, NULL},
    {"held", get_held, NULL, NULL, NULL},
    {"abandoned", get_abandoned, NULL, NULL, NULL},
    {"owner", get_owner, NULL, NULL, NULL},
    {"limit", get_limit, NULL, NULL, NULL},
    {"doorman", get_doorman, set_doorman, NULL, NULL},
    {0},
};

static PyMemberDef sync_members[] = {{"open", T_INT, offsetof(Sync, open), READONLY, NULL}, {0}};

#ifdef RING_FAULTS
static PyObject *sync_fault(PyObject *self, PyObject *point)
{
    ((Sync *)self)->s.fault = (int)PyLong_AsLong(point);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}
#endif

#define KEYWORDS(name, function) \
    {name, (PyCFunction)(void (*)(void))(function), METH_FASTCALL | METH_KEYWORDS, NULL}

static PyMethodDef sync_methods[] = {
    {"map", sync_map, METH_VARARGS, NULL},
    {"shut", sync_shut, METH_NOARGS, NULL},
    KEYWORDS("acquire", permits_acquire),
    KEYWORDS("release", permits_release),
    {"__enter__", permits_enter, METH_NOARGS, NULL},
    FAST("__exit__", permits_exit),
    {"take", permits_try, METH_NOARGS, NULL},
    FAST("change", sync_swap),
    FAST("sleep", sync_sleep_method),
    {"wake_all", sync_wake_all, METH_NOARGS, NULL},
    {"assign", sync_assign, METH_VARARGS, NULL},
    {"sweep", sync_sweep_method, METH_O, NULL},
    {"pass_on", sync_pass_on, METH_O, NULL},
#ifdef RING_FAULTS
    {"fault", sync_fault, METH_O, NULL},
#endif
    {0},
};

static PyType_Slot sync_slots[] = {
    {Py_tp_dealloc, sync_dealloc},
    {Py_tp_methods, sync_methods},
    {Py_tp_getset, sync_attributes},
    {Py_tp_members, sync_members},
    {0},
};

static PyType_Spec sync_spec = {
    "actors.transports._ring.Sync", sizeof(Sync), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, sync_slots,
};

static PyMethodDef sync_functions[] = {{"create_sync", module_create_sync, METH_VARARGS, NULL}, {0}};

bool sync_register(PyObject *module)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromSpec(&sync_spec);
    return type && !PyModule_AddType(module, type) && !PyModule_AddFunctions(module, sync_functions);
}
