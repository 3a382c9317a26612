/* Sync: one lock, semaphore, barrier or event in a page that processes share (sync.h); its Python subclasses are what
users hold.

Rule: a change of the word and of the slot is made under the GIL from the first store to the last, so a slot has one
writer however many threads and objects a process has. The GIL is released only to sleep; a sleep is a slice, after which
signals are handled and the connection is looked at. Who was woken tries first and handles signals then: no wake-up is
lost, and what was taken is returned (`__enter__` is C, so that nothing can be raised between the taking and the block).

An object that is not open (new, forked, or its system is gone) asks its subclass's `_reopen`, which opens it or raises;
in a thread that runs an event loop `_refuse` says whether it may block; `_tell` tells the guardian that coroutines may
have what was given back.

Rejected: the waiting loop in Python; Ctrl-C between the taking and the return left the lock taken for ever. */

#include "binding.h"
#include "sync.h"

#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>

#define LONGEST 9223372036.0 /* seconds: threading.TIMEOUT_MAX */

struct mapping {
    struct sync_page *page;
    int users; /* the object, and its threads that sleep */
};

typedef struct {
    PyObject_HEAD struct sync s;
    struct mapping *mapping;
    int open;
} Sync;

static PyObject *running_loop;    /* asyncio._get_running_loop */
static PyCFunction running_loop_c; /* what is in it, called at each acquire; NULL: it is no builtin here */

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

static bool call(Sync *self, const char *method)
{
    PyObject *said = PyObject_CallMethod((PyObject *)self, method, NULL);
    Py_XDECREF(said);
    return said != NULL;
}

static bool ready(Sync *self)
{
    return self->open || (call(self, "_reopen") && self->open);
}

/* False: this thread runs an event loop that must not be blocked, and the exception says so. */
static bool may_block(Sync *self)
{
    if (!running_loop) {
        PyObject *asyncio = PyImport_ImportModule("asyncio");
        running_loop = asyncio ? PyObject_GetAttrString(asyncio, "_get_running_loop") : NULL;
        Py_XDECREF(asyncio);
        if (!running_loop)
            return false;
        if (PyObject_TypeCheck(running_loop, &PyCFunction_Type) && PyCFunction_GetFlags(running_loop) == METH_NOARGS)
            running_loop_c = PyCFunction_GetFunction(running_loop);
    }
    PyObject *loop =
        running_loop_c ? running_loop_c(PyCFunction_GetSelf(running_loop), NULL) : PyObject_CallNoArgs(running_loop);
    if (!loop)
        return false;
    Py_DECREF(loop);
    return loop == Py_None || call(self, "_refuse");
}

/* Coroutines may have this much; whoever was killed or cut off before it said so has the guardian say it. */
static void tell(Sync *self, uint32_t permits)
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

/* Sleep a slice. 0 and so on as sync_sleep, -1: an exception. */
static int doze(Sync *self, uint64_t seen, uint64_t ns)
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

/* `seconds` < 0: for ever. 1 taken, 0 not in time, -1 an exception. */
static int take_until(Sync *self, double seconds)
{
    bool waited = false;
    uint64_t seen, start = ring_now(CLOCK_MONOTONIC), whole = seconds < 0 ? UINT64_MAX : (uint64_t)(seconds * 1e9);
    for (;;) {
        if (sync_take(&self->s, waited, &seen))
            return 1;
        if (PyErr_CheckSignals())
            return -1;
        uint64_t passed = ring_now(CLOCK_MONOTONIC) - start;
        if (passed >= whole)
            return 0;
        int said = doze(self, seen, whole - passed);
        waited = waited || said == 0 || said == ETIMEDOUT;
        if (!self->open && !(call(self, "_lost") && self->open))
            return -1;
    }
}

static bool acquire_arguments(Py_ssize_t n, PyObject *const *args, PyObject *names, int *blocking, PyObject **timeout)
{
    for (Py_ssize_t i = 0, all = n + (names ? PyTuple_Size(names) : 0); i < all; i++) {
        PyObject *name = i < n ? NULL : PyTuple_GetItem(names, i - n);
        bool first = name ? PyUnicode_CompareWithASCIIString(name, "blocking") == 0 : i == 0;
        if (i > 1 || (name && !first && PyUnicode_CompareWithASCIIString(name, "timeout")) || (first && i != 0 && n)) {
            PyErr_SetString(PyExc_TypeError, "acquire() takes blocking and timeout");
            return false;
        }
        if (!first)
            *timeout = args[i];
        else if ((*blocking = PyObject_IsTrue(args[i])) < 0)
            return false;
    }
    return true;
}

/* The seconds that a timeout means: -1 for ever, 0 not at all; what threading raises where it makes no sense. */
static bool acquire_seconds(Sync *self, int blocking, PyObject *timeout, double *seconds)
{
    bool lock = self->s.p->kind == SYNC_LOCK;
    *seconds = blocking ? -1 : 0;
    if (!timeout || (!lock && timeout == Py_None))
        return true;
    double given = PyFloat_AsDouble(timeout);
    if (given == -1.0 && PyErr_Occurred())
        return false;
    if (!blocking && !(lock && given == -1)) {
        PyErr_SetString(PyExc_ValueError, lock ? "can't specify a timeout for a non-blocking call"
                                               : "can't specify timeout for non-blocking acquire");
        return false;
    }
    if (lock && (isnan(given) || (given < 0 && given != -1))) {
        PyErr_SetString(PyExc_ValueError, "timeout value must be a non-negative number");
        return false;
    }
    if (given > LONGEST) {
        PyErr_SetString(PyExc_OverflowError, "timeout value is too large");
        return false;
    }
    if (blocking)
        *seconds = lock ? given : given > 0 ? given : 0;
    return true;
}

static PyObject *sync_acquire(PyObject *object, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    Sync *self = (Sync *)object;
    int blocking = 1;
    PyObject *timeout = NULL;
    double seconds = -1;
    uint64_t seen;
    if (!ready(self))
        return NULL;
    if ((n || names) && (!acquire_arguments(n, args, names, &blocking, &timeout) ||
                         !acquire_seconds(self, blocking, timeout, &seconds)))
        return NULL;
    if (seconds != 0 && !may_block(self))
        return NULL;
    if (sync_take(&self->s, false, &seen))
        Py_RETURN_TRUE;
    if (seconds == 0)
        Py_RETURN_FALSE;
    int said = take_until(self, seconds);
    return said < 0 ? NULL : PyBool_FromLong(said);
}

static PyObject *sync_enter(PyObject *self, PyObject *Py_UNUSED(none))
{
    return sync_acquire(self, NULL, 0, NULL);
}

/* take(): at once or not at all, by a coroutine that was told that it may */
static PyObject *sync_try(PyObject *object, PyObject *Py_UNUSED(none))
{
    Sync *self = (Sync *)object;
    uint64_t seen;
    return ready(self) ? PyBool_FromLong(sync_take(&self->s, true, &seen)) : NULL;
}

static bool give_back(Sync *self, uint32_t permits)
{
    struct sync *s = &self->s;
    if (!ready(self))
        return false;
    if (s->p->kind == SYNC_LOCK && (!sync_held(s) || sync_count(s, sync_word(s))))
        return call(self, "_not_held");
    bool bounded = s->p->kind == SYNC_SEMAPHORE && s->p->bounded && s->p->limit < sync_most(s);
    int64_t left = sync_give(s, permits, bounded ? s->p->limit : sync_most(s));
    if (left < 0)
        PyErr_SetString(PyExc_ValueError, "Semaphore released too many times");
    if (left > 0)
        tell(self, (uint32_t)left);
    return left >= 0;
}

/* release(n=1); n for semaphores */
static PyObject *sync_release(PyObject *object, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    Sync *self = (Sync *)object;
    Py_ssize_t all = n + (names ? PyTuple_Size(names) : 0);
    long permits = 1;
    if (all) {
        bool known = all == 1 && (!names || PyUnicode_CompareWithASCIIString(PyTuple_GetItem(names, 0), "n") == 0);
        if (!ready(self))
            return NULL;
        if (!known || self->s.p->kind == SYNC_LOCK)
            return PyErr_Format(PyExc_TypeError, "release() takes %s", self->s.p->kind == SYNC_LOCK ? "nothing" : "n");
        permits = PyLong_AsLong(args[0]);
        if (permits == -1 && PyErr_Occurred())
            return NULL;
        if (permits < 1 || permits > 0xffff) {
            PyErr_SetString(PyExc_ValueError, permits < 1 ? "n must be one or more" : "Semaphore released too many times");
            return NULL;
        }
    }
    return give_back(self, (uint32_t)permits) ? Py_NewRef(Py_None) : NULL;
}

static PyObject *sync_exit(PyObject *object, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(n))
{
    return give_back((Sync *)object, 1) ? Py_NewRef(Py_None) : NULL;
}

/* --- for barriers and events */

/* change(seen, fields, held): the compare-and-swap */
static PyObject *sync_swap(PyObject *object, PyObject *const *args, Py_ssize_t n)
{
    Sync *self = (Sync *)object;
    if (!arity("change", n, 3) || !ready(self))
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
    if (!arity("sleep", n, 2) || !ready(self))
        return NULL;
    unsigned long long seen = PyLong_AsUnsignedLongLong(args[0]);
    double seconds = PyFloat_AsDouble(args[1]);
    if (PyErr_Occurred())
        return NULL;
    int said = doze(self, seen, seconds >= 0 && seconds <= 1 ? (uint64_t)(seconds * 1e9) : SYNC_SLICE);
    if (PyErr_CheckSignals() || (!self->open && !(call(self, "_lost") && self->open)))
        return NULL;
    return PyBool_FromLong(said == 0);
}

static PyObject *sync_wake_all(PyObject *object, PyObject *Py_UNUSED(none))
{
    Sync *self = (Sync *)object;
    if (!ready(self))
        return NULL;
    sync_wake(&self->s, INT_MAX);
    uint32_t told = atomic_load(&self->s.p->doorman);
    if (told)
        tell(self, told);
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
    if (PyErr_Occurred() || !ready(self))
        return NULL;
    if (sync_offer(&self->s, (uint32_t)permits))
        sync_unreserve(&self->s);
    Py_RETURN_NONE;
}

/* --- attributes */

static PyObject *get_word(PyObject *object, void *Py_UNUSED(closure))
{
    return ready((Sync *)object) ? PyLong_FromUnsignedLongLong(sync_word(&((Sync *)object)->s)) : NULL;
}

static PyObject *get_count(PyObject *object, void *Py_UNUSED(closure))
{
    struct sync *s = &((Sync *)object)->s;
    return ready((Sync *)object) ? PyLong_FromUnsignedLongLong(sync_count(s, sync_word(s))) : NULL;
}

static PyObject *get_number(PyObject *object, void *Py_UNUSED(closure))
{
    struct sync *s = &((Sync *)object)->s;
    return ready((Sync *)object) ? PyLong_FromUnsignedLongLong(sync_word(s) >> s->shift) : NULL;
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
    return ready((Sync *)object) ? PyLong_FromUnsignedLong(load(s->p->slots[sync_word(s) & SYNC_SLOT].owner)) : NULL;
}

static PyObject *get_limit(PyObject *object, void *Py_UNUSED(closure))
{
    return ready((Sync *)object) ? PyLong_FromUnsignedLong(((Sync *)object)->s.p->limit) : NULL;
}

static PyObject *get_doorman(PyObject *object, void *Py_UNUSED(closure))
{
    return ready((Sync *)object) ? PyLong_FromUnsignedLong(atomic_load(&((Sync *)object)->s.p->doorman)) : NULL;
}

static int set_doorman(PyObject *object, PyObject *value, void *Py_UNUSED(closure))
{
    unsigned long waiting = value ? PyLong_AsUnsignedLong(value) : 0;
    if (PyErr_Occurred() || !ready((Sync *)object))
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
    KEYWORDS("acquire", sync_acquire),
    KEYWORDS("release", sync_release),
    {"__enter__", sync_enter, METH_NOARGS, NULL},
    FAST("__exit__", sync_exit),
    {"take", sync_try, METH_NOARGS, NULL},
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
