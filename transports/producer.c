/* The producers' side of Ring: push, answer, put, cancel.

Rule: no Python call and no wait for the GIL while the lock is held. A try or two hundred for the lock with the GIL (the
usual owner is some hundred nanoseconds from done); then the GIL is released before the lock is waited for, and taken
again only after it is given back. All waits are slices, between which signals are handled and `closed` is looked at, so
^C leaves nothing half-written.

Rejected: an exception for a full mailbox. Full, closed and stuck are what callers decide upon at every push: they are
values. */

#include "binding.h"
#include "takers.h"

#include <stdlib.h>

enum {
    BUSY = -100,               /* inside this file: the lock was not ours within the slice */
    TRIES = 200,               /* of the lock, with the GIL */
    BIG = 64 << 10,            /* bodies that are copied without the GIL */
    SLICE = 100 * 1000000,     /* ns of waiting for the lock between two looks at signals */
    ROOM_SLICE = 50 * 1000000, /* the same for room: it bounds what a lost wake-up can cost */
    BRIEF = 10 * 1000000,      /* ns for the lock where the caller gave no time */
    ANSWER = 100 *
        1000000, /* ns for a lane's lock: its owner may be stopped, the guardian nudges it on within some 20 ms */
};

/* --- arguments */

struct body {
    const void *data;
    Py_ssize_t length;
    Py_buffer buffer;
    bool exported;
};

static bool body_open(struct body *b, PyObject *object)
{
    b->exported = false;
    if (PyBytes_CheckExact(object)) {
        b->data = PyBytes_AsString(object);
        b->length = PyBytes_Size(object);
        return true;
    }
    if (PyObject_GetBuffer(object, &b->buffer, PyBUF_SIMPLE))
        return false;
    b->exported = true;
    b->data = b->buffer.buf;
    b->length = b->buffer.len;
    return true;
}

static void body_close(struct body *b)
{
    if (b->exported)
        PyBuffer_Release(&b->buffer);
}

static bool parse_u64(PyObject *object, uint64_t *value)
{
    *value = PyLong_AsUnsignedLongLong(object);
    return *value != (uint64_t)-1 || !PyErr_Occurred();
}

static bool parse_u16(PyObject *object, const char *name, uint16_t *value)
{
    long n = PyLong_AsLong(object);
    if (n == -1 && PyErr_Occurred())
        return false;
    if (n < 0 || n > UINT16_MAX) {
        PyErr_Format(PyExc_ValueError, "%s must be from 0 to 65535, not %ld", name, n);
        return false;
    }
    *value = (uint16_t)n;
    return true;
}

/* (kind, flags, sender, corr) */
static bool parse_fields(struct message *m, PyObject *const *args)
{
    return parse_u16(args[0], "kind", &m->kind) && parse_u16(args[1], "flags", &m->flags) &&
           parse_u64(args[2], &m->sender) && parse_u64(args[3], &m->corr);
}

static bool fits(const struct ring *r, const struct message *m)
{
    if (ring_size(m->length) <= r->capacity)
        return true;
    PyErr_Format(PyExc_ValueError, "a message of %llu bytes can never fit into a mailbox of %llu bytes",
                 (unsigned long long)m->length, (unsigned long long)r->capacity);
    return false;
}

/* --- the lock */

/* Take the lock, with the GIL for a moment, else without it: *released is then set and must be restored after the
   unlock. 0 or errno. */
static int acquire(struct ring *r, uint64_t slice, PyThreadState **released)
{
    int rc = EBUSY;
    for (int i = 0; i < TRIES && (rc = ring_trylock(r)) == EBUSY; i++)
        ring_pause();
    if (rc != EBUSY)
        return rc;
    *released = PyEval_SaveThread();
    return ring_lock_until(r, ring_now(CLOCK_MONOTONIC) + slice);
}

/* With the lock: a position, RING_FULL, RING_CLOSED, RING_LEFT, RING_NOMEM or RING_CORRUPT. */
static int64_t append(struct ring *r, const struct message *m, uint64_t limit)
{
    if (ring_closed(r))
        return RING_CLOSED;
    if (r->shared) {
        int full = load(r->me) ? takers_full(r) : RING_LEFT;
        if (full)
            return full == 1 ? RING_FULL : full;
    }
    return ring_write(r, m, limit);
}

/* One try: what `append` says, or BUSY. */
static int64_t attempt(struct ring *r, const struct message *m, uint64_t limit, uint64_t slice)
{
    PyThreadState *released = NULL;
    int64_t said;
    int rc = acquire(r, slice, &released);
    if (rc == 0) {
        FAULT(r, 1);
        if (m->length > BIG && !released)
            released = PyEval_SaveThread();
        said = append(r, m, limit);
        ring_unlock(r);
        if (said >= 0) {
            FAULT(r, 5);
            if (r->shared)
                takers_wake(r, 1);
            else
                ring_bell(r);
        }
    } else {
        said = rc == ETIMEDOUT ? BUSY : RING_CORRUPT;
    }
    if (released)
        PyEval_RestoreThread(released);
    return said;
}

/* How long a push may wait; the clock is read only when it has to. */
struct patience {
    uint64_t room, lock; /* ns; UINT64_MAX: for ever */
    uint64_t start;      /* 0: nothing has been waited for yet */
};

/* What is left of `whole`, after `waited` ns before the first call. */
static uint64_t left(struct patience *p, uint64_t whole, uint64_t waited)
{
    uint64_t now = ring_now(CLOCK_MONOTONIC);
    if (!p->start)
        p->start = now - waited;
    if (whole == UINT64_MAX)
        return whole;
    return now - p->start < whole ? whole - (now - p->start) : 0;
}

static void await_room(struct ring *r, const struct message *m, uint64_t limit, uint64_t slice)
{
    PyThreadState *released = PyEval_SaveThread();
    if (r->shared)
        takers_await_room(r, ring_size(m->length), limit, slice);
    else
        ring_await_room(r, ring_size(m->length), limit, slice);
    PyEval_RestoreThread(released);
}

/* A position, RING_FULL, RING_CLOSED, RING_LEFT, RING_STUCK, RING_NOMEM; RING_CORRUPT: an exception is set. */
static int64_t deliver(struct ring *r, const struct message *m, uint64_t limit, struct patience p)
{
    uint64_t slice = p.lock < SLICE ? p.lock : SLICE;
    for (;;) {
        int64_t said = attempt(r, m, limit, slice);
        bool final = said == RING_CLOSED || said == RING_LEFT || said == RING_NOMEM;
        if (said >= 0 || final || (said == RING_FULL && !p.room))
            return said;
        if (said == RING_CORRUPT) {
            corrupt(r, "the senders' side makes no sense");
            return said;
        }
        uint64_t rest = said == BUSY ? left(&p, p.lock, slice) : left(&p, p.room, 0);
        if (said == BUSY && load(r->h->closed))
            return RING_CLOSED;
        if (!rest)
            return said == BUSY ? RING_STUCK : said;
        if (said == RING_FULL)
            await_room(r, m, limit, rest < ROOM_SLICE ? rest : ROOM_SLICE);
        if (PyErr_CheckSignals())
            return RING_CORRUPT;
        slice = rest < SLICE ? rest : SLICE;
    }
}

static PyObject *position_or_error(int64_t said)
{
    return said == RING_CORRUPT ? NULL : PyLong_FromLongLong(said);
}

/* --- methods */

static struct patience patience(double timeout)
{
    if (!(timeout >= 0 && timeout < 1e9))
        return (struct patience){UINT64_MAX, UINT64_MAX, 0};
    uint64_t room = (uint64_t)(timeout * 1e9);
    return (struct patience){room, room > BRIEF ? room : BRIEF, 0};
}

/* push(body, kind, flags, sender, corr, deadline, timeout) */
PyObject *producer_push(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    struct ring *r = &((Ring *)self)->r;
    struct message m;
    struct body b;
    if (!arity("push", n, 7) || !parse_fields(&m, args + 1) || !parse_u64(args[5], &m.deadline))
        return NULL;
    double timeout = PyFloat_AsDouble(args[6]);
    if ((timeout == -1.0 && PyErr_Occurred()) || !body_open(&b, args[0]))
        return NULL;
    m.body = b.data;
    m.length = (uint64_t)b.length;
    int64_t said = fits(r, &m) ? deliver(r, &m, r->capacity, patience(timeout)) : RING_CORRUPT;
    body_close(&b);
    return position_or_error(said);
}

/* [name, *args] */
static PyObject *call_of(PyObject *name, PyObject *args)
{
    Py_ssize_t size = PyTuple_Size(args);
    PyObject *call = size < 0 ? NULL : PyList_New(size + 1);
    if (!call)
        return NULL;
    PyList_SetItem(call, 0, Py_NewRef(name));
    for (Py_ssize_t i = 0; i < size; i++)
        PyList_SetItem(call, i + 1, Py_NewRef(PyTuple_GetItem(args, i)));
    return call;
}

/* The last of the packers, taken out of their list while it is used: packing may run a finalizer that sends as well. The
   body, a new reference; NULL without an exception: there is no packer. */
static PyObject *packed(PyObject *packers, PyObject *call)
{
    Py_ssize_t last = PyList_Size(packers) - 1;
    PyObject *pack = last < 0 ? NULL : Py_XNewRef(PyList_GetItem(packers, last));
    if (!pack)
        return NULL;
    PyObject *body = NULL;
    if (!PyList_SetSlice(packers, last, last + 1, NULL))
        body = PyObject_CallFunctionObjArgs(pack, call, NULL);
    if (body && PyBytes_Size(body) <= SHORT && PyList_Append(packers, pack))
        Py_CLEAR(body);
    Py_DECREF(pack);
    return body;
}

/* tell(name, args, packers, sender): what most messages need, in one call */
PyObject *producer_tell(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    struct ring *r = &((Ring *)self)->r;
    struct message m = {.kind = TELL};
    if (!arity("tell", n, 4) || !parse_u64(args[3], &m.sender))
        return NULL;
    if (!PyTuple_Check(args[1]) || !PyList_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError, "tell() takes a tuple and a list");
        return NULL;
    }
    PyObject *call = call_of(args[0], args[1]), *body = NULL;
    if (!call)
        return NULL;
    if (plain(call, 0))
        body = packed(args[2], call);
    Py_DECREF(call);
    if (!body)
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_False);
    m.body = (const uint8_t *)PyBytes_AsString(body);
    m.length = (uint64_t)PyBytes_Size(body);
    int64_t said = m.length <= SHORT && fits(r, &m) ? deliver(r, &m, r->capacity, patience(0)) : RING_FULL;
    if (said < 0 && !PyErr_Occurred())
        return body; /* the caller's to send, with patience, or to explain */
    Py_DECREF(body);
    return said < 0 ? NULL : Py_NewRef(Py_None);
}

/* answer(body, kind, flags, sender, corr) */
PyObject *producer_answer(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    struct ring *r = &((Ring *)self)->r;
    struct message m = {.deadline = 0};
    struct body b;
    if (!arity("answer", n, 5) || !parse_fields(&m, args + 1) || !body_open(&b, args[0]))
        return NULL;
    m.body = b.data;
    m.length = (uint64_t)b.length;
    uint64_t limit = ring_size(m.length) <= RING_SLOT ? r->capacity : r->capacity / 2;
    int64_t said = ring_size(m.length) <= limit ? deliver(r, &m, limit, (struct patience){0, ANSWER, 0}) : RING_FULL;
    body_close(&b);
    return position_or_error(said);
}

/* put(body, kind, flags, sender, corr) */
PyObject *producer_put(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    struct ring *r = &((Ring *)self)->r;
    struct message m = {.deadline = 0};
    struct body b;
    if (!arity("put", n, 5) || !parse_fields(&m, args + 1))
        return NULL;
    if (r->capacity > RING_TRIM) { /* its consumer may trim it, under the lock that we do not take */
        PyErr_SetString(PyExc_ValueError, "put() is for lanes of at most 1 MiB");
        return NULL;
    }
    if (!body_open(&b, args[0]))
        return NULL;
    m.body = b.data;
    m.length = (uint64_t)b.length;
    int64_t said = fits(r, &m) ? ring_write(r, &m, r->capacity) : BUSY;
    if (said >= 0)
        ring_bell(r);
    body_close(&b);
    if (said == RING_CORRUPT)
        return corrupt(r, "the sender's side makes no sense");
    return said == BUSY ? NULL : PyBool_FromLong(said >= 0);
}

struct dropped {
    void *body; /* a copy, made under the lock, where no Python object may be */
    Py_ssize_t length;
    uint32_t flags;
};

/* The record that this sender pushed there and that is still NEW, under the lock: nobody can overwrite it meanwhile. False:
   it is another's or begun, or there is no memory. */
static bool cancel_locked(struct ring *r, uint64_t position, uint64_t sender, uint64_t corr, struct dropped *d)
{
    struct view v;
    uint64_t head = load_acquire(r->h->head), tail = load(r->h->tail);
    if (position - head >= tail - head || !ring_view(r, position, tail, &v) || v.record->sender != sender ||
        v.record->corr != corr)
        return false;
    uint32_t state = load(v.record->state);
    if ((state & 0xff) != NEW || !(d->body = malloc(v.length ? v.length : 1)))
        return false;
    memcpy(d->body, v.record + 1, v.length);
    d->length = (Py_ssize_t)v.length;
    d->flags = v.record->flags;
    tally_intend(&r->h->cancelled, position);
    if (!atomic_compare_exchange_strong(&v.record->state, &state, state | CANCELLED))
        return false;
    FAULT(r, 9);
    tally_settle(&r->h->cancelled);
    return true;
}

/* cancel(position, sender, corr) */
PyObject *producer_cancel(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    struct ring *r = &((Ring *)self)->r;
    uint64_t position, sender, corr;
    if (!arity("cancel", n, 3) || !parse_u64(args[0], &position) || !parse_u64(args[1], &sender) ||
        !parse_u64(args[2], &corr))
        return NULL;
    PyThreadState *released = NULL;
    struct dropped d = {0};
    bool dropped = false;
    if (acquire(r, BRIEF, &released) == 0) {
        dropped = cancel_locked(r, position, sender, corr, &d);
        ring_unlock(r);
    }
    if (released)
        PyEval_RestoreThread(released);
    PyObject *said = dropped ? Py_BuildValue("(y#I)", d.body, d.length, d.flags) : Py_NewRef(Py_None);
    free(d.body);
    return said;
}
