/* Locks and semaphores as threading has them: acquire and release, and what their arguments mean.

Rule: who was woken tries first and handles signals then: no wake-up is lost, and what was taken is returned
(`__enter__` is C, so that nothing can be raised between the taking and the block).

Rejected: the waiting loop in Python; Ctrl-C between the taking and the return left the lock taken for ever. */

#include "sync_type.h"

#include <math.h>

#define LONGEST 9223372036.0 /* seconds: threading.TIMEOUT_MAX */

/* --- acquire */

static PyObject *running_loop;     /* asyncio._get_running_loop */
static PyCFunction running_loop_c; /* what is in it, called at each acquire; NULL: it is no builtin here */

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
    return loop == Py_None || sync_call(self, "_refuse");
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
        int said = sync_doze(self, seen, whole - passed);
        waited = waited || said == 0 || said == ETIMEDOUT;
        if (!self->open && !(sync_call(self, "_lost") && self->open))
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

PyObject *permits_acquire(PyObject *object, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    Sync *self = (Sync *)object;
    int blocking = 1;
    PyObject *timeout = NULL;
    double seconds = -1;
    uint64_t seen;
    if (!sync_ready(self))
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

PyObject *permits_enter(PyObject *self, PyObject *Py_UNUSED(none))
{
    return permits_acquire(self, NULL, 0, NULL);
}

/* take(): at once or not at all, by a coroutine that was told that it may */
PyObject *permits_try(PyObject *object, PyObject *Py_UNUSED(none))
{
    Sync *self = (Sync *)object;
    uint64_t seen;
    return sync_ready(self) ? PyBool_FromLong(sync_take(&self->s, true, &seen)) : NULL;
}

/* --- release */

static bool give_back(Sync *self, uint32_t permits)
{
    struct sync *s = &self->s;
    if (!sync_ready(self))
        return false;
    if (s->p->kind == SYNC_LOCK && (!sync_held(s) || sync_count(s, sync_word(s))))
        return sync_call(self, "_not_held");
    bool bounded = s->p->kind == SYNC_SEMAPHORE && s->p->bounded && s->p->limit < sync_most(s);
    int64_t left = sync_give(s, permits, bounded ? s->p->limit : sync_most(s));
    if (left < 0)
        PyErr_SetString(PyExc_ValueError, "Semaphore released too many times");
    if (left > 0)
        sync_tell(self, (uint32_t)left);
    return left >= 0;
}

/* release(n=1); n for semaphores */
PyObject *permits_release(PyObject *object, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    Sync *self = (Sync *)object;
    Py_ssize_t all = n + (names ? PyTuple_Size(names) : 0);
    long permits = 1;
    if (all) {
        bool known = all == 1 && (!names || PyUnicode_CompareWithASCIIString(PyTuple_GetItem(names, 0), "n") == 0);
        if (!sync_ready(self))
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

PyObject *permits_exit(PyObject *object, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(n))
{
    return give_back((Sync *)object, 1) ? Py_NewRef(Py_None) : NULL;
}
