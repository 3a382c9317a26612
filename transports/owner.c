/* The owner's side of Ring: what the guardian does with a mailbox whose consumer comes, goes and dies.

Rule: none of this takes the producers' lock, so that no sender can hold the owner up, and nothing here follows a
pointer or a length that was not checked. in_hand and sweep are called when there is no consumer; producers may go on.

Claiming is one compare-and-swap on the epoch word: of all processes that were ever started for a mailbox at most one is
its consumer at a time. */

#include "binding.h"

static struct ring *ring_of(PyObject *self)
{
    return &((Ring *)self)->r;
}

/* --- claiming */

static bool parse_attempt(PyObject *object, uint64_t *attempt)
{
    *attempt = PyLong_AsUnsignedLongLong(object);
    if (*attempt == (uint64_t)-1 && PyErr_Occurred())
        return false;
    if (*attempt == 0 || *attempt >> 63) {
        PyErr_SetString(PyExc_ValueError, "an attempt is a number from 1 to 2**63 - 1");
        return false;
    }
    return true;
}

PyObject *owner_grant(PyObject *self, PyObject *object)
{
    uint64_t attempt;
    if (!parse_attempt(object, &attempt))
        return NULL;
    atomic_store(&ring_of(self)->h->epoch, attempt << 1);
    Py_RETURN_NONE;
}

PyObject *owner_claim(PyObject *self, PyObject *object)
{
    struct ring *r = ring_of(self);
    uint64_t attempt;
    if (!parse_attempt(object, &attempt))
        return NULL;
    uint64_t open = attempt << 1;
    if (!atomic_compare_exchange_strong(&r->h->epoch, &open, open | 1))
        Py_RETURN_FALSE;
    store(r->h->pid, (uint32_t)getpid());
    ring_rewind(r);
    Py_RETURN_TRUE;
}

PyObject *owner_revoke(PyObject *self, PyObject *object)
{
    uint64_t attempt;
    if (!parse_attempt(object, &attempt))
        return NULL;
    uint64_t open = attempt << 1;
    return PyBool_FromLong(atomic_compare_exchange_strong(&ring_of(self)->h->epoch, &open, 0));
}

/* --- after the consumer's death */

/* A settled record is what the caller is told of. False: an exception is set. */
static bool report(PyObject *list, const struct view *v)
{
    PyObject *tuple = PyTuple_New(8);
    bool told = tuple && record_fill(tuple, v) && !PyList_Append(list, tuple);
    Py_XDECREF(tuple);
    return told;
}

/* Which records come back: those in hand from position `from` on, with fewer tries. */
struct again {
    uint64_t tries, from;
};

/* Bring the record to its end, or back to NEW. 1: ended (report it), 0: nothing to report. */
static int settle(struct ring *r, const struct view *v, struct again back, bool all)
{
    uint32_t state = load(v->record->state);
    for (;;) {
        uint32_t told = state & 0xff, tried = state >> 8;
        if (told >= DONE || (told == NEW && !all))
            return 0;
        bool again = !all && v->position >= back.from && tried < back.tries && tried < 0xffffff;
        uint32_t becomes = again ? (tried + 1) << 8 | NEW : (state & ~0xffu) | DONE;
        if (!atomic_compare_exchange_weak(&v->record->state, &state, becomes))
            continue; /* its sender cancels it just now */
        if (!again)
            store(r->h->handled.count, load(r->h->handled.count) + 1);
        return !again;
    }
}

/* Looked at before anything is changed: a corrupt ring is reported as it was found. */
static bool whole(const struct ring *r, uint64_t head, uint64_t tail)
{
    struct view v;
    for (uint64_t position = head; position != tail; position += v.size)
        if (!ring_view(r, position, tail, &v))
            return false;
    return true;
}

/* Settle the records from the head to the tail: all of them, or those that a dead consumer had in hand. The list of
   what ended. */
static PyObject *settle_all(struct ring *r, struct again back, bool all, long kind)
{
    struct view v;
    uint64_t head = load_acquire(r->h->head), tail = load_acquire(r->h->tail), position = head;
    if (!whole(r, head, tail))
        return corrupt(r, "a record's header makes no sense");
    PyObject *list = PyList_New(0);
    tally_mend(r, &r->h->handled, DONE);
    for (bool front = true; list && position != tail && ring_view(r, position, tail, &v);) {
        bool meant = kind < 0 || v.record->kind == kind;
        if (meant && settle(r, &v, back, all) && !report(list, &v))
            Py_CLEAR(list);
        position += v.size;
        front = front && ring_state(v.record) >= DONE;
        if (front)
            head = position;
    }
    store(r->h->busy_since, 0);
    store(r->h->local_since, 0);
    store_release(r->h->head, head); /* (H) */
    ring_rewind(r);
    ring_wake_senders(r, false);
    return list;
}

/* in_hand(tries, upto=0) */
PyObject *owner_in_hand(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    struct again back = {0, 0};
    if (n != 2 && !arity("in_hand", n, 1))
        return NULL;
    back.tries = PyLong_AsUnsignedLongLong(args[0]);
    if (n == 2 && !PyErr_Occurred())
        back.from = PyLong_AsUnsignedLongLong(args[1]);
    return PyErr_Occurred() ? NULL : settle_all(ring_of(self), back, false, -1);
}

/* sweep(kind=-1) */
PyObject *owner_sweep(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    long kind = n > 0 ? PyLong_AsLong(args[0]) : -1;
    if (kind == -1 && PyErr_Occurred())
        return NULL;
    return settle_all(ring_of(self), (struct again){0, 0}, true, kind);
}

/* --- bells */

PyObject *owner_owed(PyObject *self, PyObject *Py_UNUSED(none))
{
    struct ring *r = ring_of(self);
    fence(); /* (S) */
    if (load(r->h->head) == load(r->h->tail) || load(r->h->sleeping) == AWAKE)
        Py_RETURN_FALSE;
    store(r->h->sleeping, RUNG);
    ring_strike(r);
    Py_RETURN_TRUE;
}

PyObject *owner_ring(PyObject *self, PyObject *Py_UNUSED(none))
{
    struct ring *r = ring_of(self);
    store(r->h->sleeping, AWAKE);
    ring_strike(r);
    Py_RETURN_NONE;
}

/* --- closing */

PyObject *owner_close(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    struct ring *r = ring_of(self);
    uint64_t code = 1;
    if (n > 1)
        return arity("close", n, 1), NULL;
    if (n == 1 && (code = PyLong_AsUnsignedLongLong(args[0])) == (uint64_t)-1 && PyErr_Occurred())
        return NULL;
    if (code == 0) {
        PyErr_SetString(PyExc_ValueError, "a closed ring's code is not 0");
        return NULL;
    }
    atomic_store(&r->h->closed, code); /* (C) */
    ring_wake_senders(r, true);
    Py_RETURN_NONE;
}

PyObject *owner_reopen(PyObject *self, PyObject *Py_UNUSED(none))
{
    atomic_store(&ring_of(self)->h->closed, 0);
    Py_RETURN_NONE;
}

PyObject *owner_quiet(PyObject *self, PyObject *Py_UNUSED(none))
{
    struct ring *r = ring_of(self);
    if (!load(r->h->closed))
        Py_RETURN_FALSE;
    fence(); /* (C) */
    return PyBool_FromLong(ring_owner(r) == 0);
}

PyObject *owner_owner(PyObject *self, PyObject *Py_UNUSED(none))
{
    return PyLong_FromUnsignedLong(ring_owner(ring_of(self)));
}

/* --- stats */

PyObject *owner_stats(PyObject *self, PyObject *Py_UNUSED(none))
{
    struct ring *r = ring_of(self);
    struct header *h = r->h;
    typedef unsigned long long u64;
    u64 head = load_acquire(h->head),
        handled = load_acquire(h->handled.count) + load_acquire(h->cancelled.count); /* before accepted */
    u64 count = ring_accepted(h), pages = load(h->populated_end) - load(h->populated_base);
    return Py_BuildValue("{sKsKsKsKsKsKsKsKsKsKsKsK}", "head", head, "tail", (u64)load(h->tail), "capacity",
                         (u64)r->capacity, "accepted", count > handled ? count : handled, "handled", handled,
                         "busy_since", (u64)load(h->busy_since), "local_since", (u64)load(h->local_since), "sleeping", (u64)(load(h->sleeping) != AWAKE),
                         "recovered", (u64)load(h->recovered), "closed", (u64)load(h->closed), "pid", (u64)load(h->pid),
                         "populated", pages < r->capacity ? pages : (u64)r->capacity);
}
