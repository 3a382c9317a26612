/* The consumers' side of a Ring that several of them share: join, leave, get, end, give_back and what goes with them.

Rule: as with producers (producer.c), no Python call and no wait for the GIL while the lock is held; all waits are
slices, between which signals are handled. A record is in hand before its tuple is made, and over only afterwards: what
can't be delivered (no memory) goes back.

Rejected: ending a record under the same lock that took it, one lock the less a get: its length is not known before,
and memory for it can't be had with the lock held. */

#include "binding.h"
#include "takers.h"

enum {
    BUSY = -100,           /* inside this file: the lock was not ours within the slice */
    TRIES = 200,           /* of the lock, with the GIL */
    SLICE = 100 * 1000000, /* ns of waiting between two looks at signals; it bounds what a lost wake-up can cost */
    BRIEF = 10 * 1000000,  /* ns for the lock where the caller gave no time */
    SPIN = 20000,          /* ns */
};

static struct ring *ring_of(PyObject *self)
{
    return &((Ring *)self)->r;
}

static bool shared(const struct ring *r)
{
    if (!r->shared)
        PyErr_SetString(PyExc_RuntimeError, "this ring has one consumer: join() it first");
    return r->shared;
}

/* As in producer.c. 0 or errno. */
static int seize(struct ring *r, uint64_t slice, PyThreadState **released)
{
    int rc = EBUSY;
    for (int i = 0; i < TRIES && (rc = takers_trylock(r)) == EBUSY; i++)
        ring_pause();
    if (rc != EBUSY)
        return rc;
    *released = PyEval_SaveThread();
    return takers_lock_until(r, ring_now(CLOCK_MONOTONIC) + slice);
}

/* Until the lock is ours; its owner may be stopped. False: an exception is set. */
static bool seize_patiently(struct ring *r, PyThreadState **released)
{
    int rc;
    while ((rc = seize(r, SLICE, released)) == ETIMEDOUT) {
        PyEval_RestoreThread(*released);
        *released = NULL;
        if (PyErr_CheckSignals())
            return false;
    }
    if (rc == 0)
        return true;
    if (*released)
        PyEval_RestoreThread(*released);
    *released = NULL;
    corrupt(r, "the consumers' side makes no sense");
    return false;
}

/* --- joining */

/* join(me, most=0) */
PyObject *taker_join(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    struct ring *r = ring_of(self);
    if (!arity("join", n, 2))
        return NULL;
    uint64_t me = PyLong_AsUnsignedLongLong(args[0]);
    uint64_t most = PyErr_Occurred() ? 0 : PyLong_AsUnsignedLongLong(args[1]);
    if (PyErr_Occurred())
        return NULL;
    if (!me)
        return PyErr_Format(PyExc_ValueError, "an endpoint is a number from 1 on");
    r->most = most;
    r->spinner = SPINNER;
    r->shared = true;
    store(r->me, me);
    Py_RETURN_NONE;
}

/* leave(): with the lock, so that no thread of this process is about to take something in its name. */
PyObject *taker_leave(PyObject *self, PyObject *Py_UNUSED(none))
{
    struct ring *r = ring_of(self);
    PyThreadState *released = NULL;
    if (!shared(r))
        return NULL;
    int rc = seize(r, SLICE, &released);
    store(r->me, 0);
    if (rc == 0)
        takers_unlock(r);
    takers_rouse(r);
    if (released)
        PyEval_RestoreThread(released);
    Py_RETURN_NONE;
}

/* abandon(): in a forked child, where other threads of its parent may have held the lock. */
PyObject *taker_abandon(PyObject *self, PyObject *Py_UNUSED(none))
{
    store(ring_of(self)->me, 0);
    Py_RETURN_NONE;
}

/* --- taking */

/* 1: taken; 0: nothing there; RING_CLOSED, RING_LEFT, RING_CORRUPT, BUSY. */
static int take(struct ring *r, uint64_t slice, struct view *v)
{
    PyThreadState *released = NULL;
    int rc = seize(r, slice, &released), said;
    if (rc == 0) {
        FAULT(r, 10);
        said = load(r->me) ? takers_find(r, v) : RING_LEFT;
        if (said == 1)
            takers_claim(r, v);
        else if (said == 0 && takers_over(r))
            said = RING_CLOSED;
        takers_unlock(r);
        if (said == 1 && takers_ready(r))
            takers_wake(r, 1);
    } else {
        said = rc == ETIMEDOUT ? BUSY : RING_CORRUPT;
    }
    if (released)
        PyEval_RestoreThread(released);
    FAULT(r, 14);
    return said;
}

static bool spun(struct ring *r)
{
    if (!spin_promises(&r->spinner, load(r->h->last_cpu)))
        return false;
    uint64_t end = ring_now(CLOCK_MONOTONIC) + SPIN;
    bool paid = false;
    do {
        for (int i = 0; i < 32 && !paid; i++) {
            ring_pause();
            paid = takers_ready(r);
        }
    } while (!paid && ring_now(CLOCK_MONOTONIC) < end);
    spin_learn(&r->spinner, paid);
    return paid;
}

static void await_record(struct ring *r, uint64_t closed, uint64_t nanoseconds)
{
    PyThreadState *released = PyEval_SaveThread();
    if (!spun(r)) {
        if (load(r->h->head) == load(r->h->tail))
            ring_trim(r);
        takers_sleep(r, closed, nanoseconds);
    }
    PyEval_RestoreThread(released);
}

/* Take one within so many ns (UINT64_MAX: for ever). 1, RING_EMPTY, RING_STUCK, RING_CLOSED, RING_LEFT; RING_CORRUPT: an
   exception is set. */
static int take_within(struct ring *r, uint64_t patience, struct view *v)
{
    uint64_t start = 0, rest = patience;
    for (;;) {
        uint64_t closed = load(r->h->closed);
        uint64_t slice = rest < BRIEF ? BRIEF : rest < SLICE ? rest : SLICE;
        int said = take(r, slice, v);
        if (said == RING_CORRUPT)
            return corrupt(r, "a record's header makes no sense"), said;
        if (said != 0 && said != BUSY)
            return said;
        if (patience && patience != UINT64_MAX) {
            uint64_t now = ring_now(CLOCK_MONOTONIC);
            start = start ? start : now;
            rest = now - start < patience ? patience - (now - start) : 0;
        }
        if (!rest)
            return said == BUSY ? RING_STUCK : RING_EMPTY;
        if (said == 0)
            await_record(r, closed, rest < SLICE ? rest : SLICE);
        if (PyErr_CheckSignals())
            return RING_CORRUPT;
    }
}

/* (body, flags, tries, position), or NULL with an exception. */
static PyObject *message(const struct view *v)
{
    PyObject *tuple = PyTuple_New(4);
    if (!tuple)
        return NULL;
    PyObject *items[4] = {
        PyBytes_FromStringAndSize((const char *)(v->record + 1), v->length),
        PyLong_FromLong(v->record->flags),
        PyLong_FromUnsignedLong(load(v->record->state) >> 8),
        PyLong_FromUnsignedLongLong(v->position),
    };
    bool whole = true;
    for (int i = 0; i < 4; i++) {
        whole = whole && items[i];
        PyTuple_SetItem(tuple, i, items[i]);
    }
    if (!whole)
        Py_CLEAR(tuple);
    return tuple;
}

enum outcome { HANDED, SETTLED, GIVEN };

/* Bring the record in hand to its end. 1; 0: it is not in hand (any more); -1: an exception is set. */
static int conclude(struct ring *r, uint64_t position, enum outcome outcome)
{
    PyThreadState *released = NULL;
    struct view v;
    if (!seize_patiently(r, &released))
        return -1;
    int said = takers_held(r, position, &v);
    bool good = said != RING_CORRUPT;
    if (said == 1 && outcome == GIVEN)
        takers_give_back(r, &v);
    else if (said == 1)
        good = takers_end(r, &v, outcome == SETTLED);
    takers_unlock(r);
    if (said == 1 && outcome == GIVEN) {
        takers_wake(r, 1);
    } else if (said == 1) {
        takers_wake_senders(r);
        if (outcome == SETTLED)
            takers_wake_joiners(r);
        if (load(r->h->closed)) /* those who wait for its end end, too */
            takers_wake(r, INT_MAX);
    }
    if (released)
        PyEval_RestoreThread(released);
    if (!good)
        corrupt(r, "a record in hand was overwritten");
    return good ? said : -1;
}

/* Give back what can't be handed over. An exception is set, and stays. */
static void put_back(struct ring *r, uint64_t position)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (conclude(r, position, GIVEN) < 0)
        PyErr_Clear(); /* still in hand: it comes back when this process ends */
    PyErr_Restore(type, value, traceback);
}

/* get(timeout, keep, into) */
PyObject *taker_get(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    struct ring *r = ring_of(self);
    struct view v;
    if (!arity("get", n, 3) || !shared(r))
        return NULL;
    if (args[2] != Py_None && !PyList_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError, "get() takes a list, or None");
        return NULL;
    }
    double timeout = PyFloat_AsDouble(args[0]);
    int keep = PyObject_IsTrue(args[1]);
    if (PyErr_Occurred())
        return NULL;
    uint64_t patience = timeout >= 0 && timeout < 1e9 ? (uint64_t)(timeout * 1e9) : UINT64_MAX;
    int said = take_within(r, patience, &v);
    if (said == RING_CORRUPT)
        return NULL;
    if (said != 1)
        return PyLong_FromLong(said);
    uint64_t position = v.position;
    bool stays = keep || (v.record->flags & RECORD_ELSEWHERE);
    PyObject *tuple = message(&v);
    if (tuple && args[2] != Py_None && PyList_Append(args[2], tuple))
        Py_CLEAR(tuple);
    if (!tuple)
        return put_back(r, position), NULL;
    if (stays) {
        if (r->most)
            takers_wake_senders(r);
        return tuple;
    }
    said = conclude(r, position, HANDED);
    if (said == 1)
        return tuple;
    Py_DECREF(tuple);
    if (said < 0)
        return put_back(r, position), NULL;
    return PyLong_FromLong(RING_LEFT); /* it has come back, to others */
}

static bool parse_position(PyObject *object, uint64_t *position)
{
    *position = PyLong_AsUnsignedLongLong(object);
    return *position != (uint64_t)-1 || !PyErr_Occurred();
}

/* end(position, settles) */
PyObject *taker_end(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    uint64_t position;
    if (!arity("end", n, 2) || !shared(ring_of(self)) || !parse_position(args[0], &position))
        return NULL;
    int settles = PyObject_IsTrue(args[1]);
    int said = settles < 0 ? -1 : conclude(ring_of(self), position, settles ? SETTLED : HANDED);
    return said < 0 ? NULL : PyBool_FromLong(said);
}

/* give_back(position) */
PyObject *taker_give_back(PyObject *self, PyObject *argument)
{
    uint64_t position;
    if (!shared(ring_of(self)) || !parse_position(argument, &position))
        return NULL;
    int said = conclude(ring_of(self), position, GIVEN);
    return said < 0 ? NULL : PyBool_FromLong(said);
}

/* --- counting and waiting */

/* waits(): records that nobody has in hand */
PyObject *taker_waits(PyObject *self, PyObject *Py_UNUSED(none))
{
    struct ring *r = ring_of(self);
    if (!shared(r))
        return NULL;
    takers_refresh(r);
    return PyLong_FromUnsignedLongLong(takers_waiting(r));
}

/* poll(): (U) the bell will be struck for the next record. True: look first. */
PyObject *taker_poll(PyObject *self, PyObject *Py_UNUSED(none))
{
    struct ring *r = ring_of(self);
    if (!shared(r))
        return NULL;
    atomic_fetch_or(&r->h->takers.hungry, POLLS);
    fence();
    return PyBool_FromLong(takers_ready(r));
}

/* task_done(): False: more often than records were put. One instruction: it happened or it did not. */
PyObject *taker_task_done(PyObject *self, PyObject *Py_UNUSED(none))
{
    struct ring *r = ring_of(self);
    if (!shared(r))
        return NULL;
    struct takers *t = &r->h->takers;
    uint64_t finished = load(t->finished);
    do {
        if (ring_accepted(r->h) - load_acquire(t->settled.count) == finished)
            Py_RETURN_FALSE;
    } while (!atomic_compare_exchange_weak(&t->finished, &finished, finished + 1));
    takers_wake_joiners(r);
    Py_RETURN_TRUE;
}

/* finished(timeout): True, or False after `timeout` seconds; RING_LEFT */
PyObject *taker_finished(PyObject *self, PyObject *argument)
{
    struct ring *r = ring_of(self);
    double timeout = PyFloat_AsDouble(argument);
    if (PyErr_Occurred() || !shared(r))
        return NULL;
    uint64_t patience = timeout >= 0 && timeout < 1e9 ? (uint64_t)(timeout * 1e9) : UINT64_MAX;
    uint64_t start = ring_now(CLOCK_MONOTONIC), waited = 0;
    for (;;) {
        takers_refresh(r);
        if (!load(r->me))
            return PyLong_FromLong(RING_LEFT);
        if (!takers_unfinished(r))
            Py_RETURN_TRUE;
        if (patience != UINT64_MAX && (waited = ring_now(CLOCK_MONOTONIC) - start) >= patience)
            Py_RETURN_FALSE;
        PyThreadState *released = PyEval_SaveThread();
        takers_await_joined(r, patience - waited < SLICE ? patience - waited : SLICE);
        PyEval_RestoreThread(released);
        if (PyErr_CheckSignals())
            return NULL;
    }
}

/* --- the owner */

/* reclaim(endpoint) */
PyObject *taker_reclaim(PyObject *self, PyObject *argument)
{
    struct ring *r = ring_of(self);
    uint64_t endpoint = PyLong_AsUnsignedLongLong(argument);
    if (endpoint == (uint64_t)-1 && PyErr_Occurred())
        return NULL;
    int64_t count = takers_reclaim(r, endpoint);
    return count == RING_CORRUPT ? corrupt(r, "a record's header makes no sense") : PyLong_FromLongLong(count);
}

/* rouse() */
PyObject *taker_rouse(PyObject *self, PyObject *Py_UNUSED(none))
{
    takers_rouse(ring_of(self));
    Py_RETURN_NONE;
}

/* keeper(): tid of the owner of the consumers' lock */
PyObject *taker_keeper(PyObject *self, PyObject *Py_UNUSED(none))
{
    return PyLong_FromUnsignedLong(takers_owner(ring_of(self)));
}
