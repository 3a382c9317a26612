/* What the C files of the extension share: the Python objects, the errors. One noun a file: _ring.c the module and the
   type Ring, producer.c, owner.c and taker.c three of its roles, inbox.c Inbox, run.c its loop, reply.c ReplyBase, segment.c
   Segment, Span and Ledger, sync.c Sync, permits.c its acquire and release, process.c, plain.c and numbers.c functions. */

#ifndef ACTORS_BINDING_H
#define ACTORS_BINDING_H

#define _GNU_SOURCE
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "ring.h"

typedef struct {
    PyObject_HEAD struct ring r;
    int owns; /* the bell: closed with the ring, so that no push can write into a descriptor that was used again */
} Ring;

typedef struct {
    PyObject_HEAD PyObject *body, *cbs;
    unsigned long long sender;
    int kind, flags, waitfd;
} Reply;

typedef PyObject *(*Fast)(PyObject *, PyObject *const *, Py_ssize_t);
#define FAST(name, function) {name, (PyCFunction)(void (*)(void))(Fast)(function), METH_FASTCALL, NULL}

/* Set the exception Corrupt("mailbox corrupt: ...") and return NULL. */
PyObject *corrupt(const struct ring *r, const char *what);

/* (kind, flags, sender, corr, deadline, tries, position, body) into a new tuple of eight. False: MemoryError. */
bool record_fill(PyObject *tuple, const struct view *v);

/* The next NEW record, STARTED, as a new tuple; its position. NULL without an exception: nothing there. */
PyObject *record_take(Ring *self, uint64_t *position);

/* False with TypeError unless `given` is `wanted`. */
bool arity(const char *name, Py_ssize_t given, Py_ssize_t wanted);

/* The record's content into the reply, which goes into `fire` if it has callbacks. What may fail comes first: false
   means that an exception is set and nothing has changed. */
bool reply_fill(Reply *self, const struct view *v, PyObject *fire);
void reply_wake(const Reply *self); /* the thread that blocks on it */

/* One process's receiving side (inbox.c). */
enum {
    REPLIES,
    CONTROL,
    MAIL,
    RINGS
}; /* collect looks at replies first: an answer wins over the news of its sender's death */

typedef struct {
    PyObject_HEAD Ring *rings[RINGS];
    int bell;
    bool busy;         /* there is a record in hand, */
    uint64_t position; /* here */
    struct ring *last; /* the ring that delivered last */
    struct spinners spinners;
    unsigned long long caller; /* whose record run() has in hand */
    int left;                  /* messages until run() lets the event loop turn */
} Inbox;

enum came { CAME_NOTHING, CAME_LANES, CAME_MAIL };

/* What there is; after `spin` microseconds without anything all rings are armed, and it is nothing. */
enum came inbox_look(Inbox *self, double spin);

/* The record in hand, if there is one, is DONE. False: Corrupt is set. */
bool inbox_done(Inbox *self);

/* The next mail, in hand. NULL without an exception: there is none. */
PyObject *inbox_take(Inbox *self);

PyObject *inbox_run(PyObject *self, PyObject *const *args, Py_ssize_t n);
PyObject *inbox_current(PyObject *self, PyObject *none);

PyTypeObject *reply_register(PyObject *module);
bool inbox_register(PyObject *module, PyTypeObject *ring, PyTypeObject *reply);
bool sync_register(PyObject *module);
extern PyMethodDef process_methods[];
extern PyMethodDef plain_methods[], number_functions[];
extern PyMethodDef segment_functions[];
bool segment_register(PyObject *module);

enum {
    SHORT = 2048,      /* bytes of a body that goes through every mailbox, even the smallest */
    LARGE = 128 << 10, /* bytes from which a buffer travels in a segment of its own */
};

enum { TELL = 1, ASK = 2 }; /* kinds of records that are handled where they arrive */

/* May it go by msgpack as it is (plain.c)? depth: containers that it lies in. */
bool plain(PyObject *value, int depth);

/* An empty memfd that can be sealed; -1 with errno. */
int memory_create(const char *name);

PyObject *producer_push(PyObject *self, PyObject *const *args, Py_ssize_t n);
PyObject *producer_tell(PyObject *self, PyObject *const *args, Py_ssize_t n);
PyObject *producer_answer(PyObject *self, PyObject *const *args, Py_ssize_t n);
PyObject *producer_put(PyObject *self, PyObject *const *args, Py_ssize_t n);
PyObject *producer_cancel(PyObject *self, PyObject *const *args, Py_ssize_t n);

PyObject *owner_grant(PyObject *self, PyObject *attempt);
PyObject *owner_claim(PyObject *self, PyObject *attempt);
PyObject *owner_revoke(PyObject *self, PyObject *attempt);
PyObject *owner_in_hand(PyObject *self, PyObject *const *args, Py_ssize_t n);
PyObject *owner_sweep(PyObject *self, PyObject *const *args, Py_ssize_t n);
PyObject *owner_owed(PyObject *self, PyObject *none);
PyObject *owner_ring(PyObject *self, PyObject *none);
PyObject *owner_close(PyObject *self, PyObject *const *args, Py_ssize_t n);
PyObject *owner_reopen(PyObject *self, PyObject *none);
PyObject *owner_quiet(PyObject *self, PyObject *none);
PyObject *owner_owner(PyObject *self, PyObject *none);
PyObject *owner_stats(PyObject *self, PyObject *none);

PyObject *taker_join(PyObject *self, PyObject *const *args, Py_ssize_t n);
PyObject *taker_leave(PyObject *self, PyObject *none);
PyObject *taker_abandon(PyObject *self, PyObject *none);
PyObject *taker_get(PyObject *self, PyObject *const *args, Py_ssize_t n);
PyObject *taker_end(PyObject *self, PyObject *const *args, Py_ssize_t n);
PyObject *taker_give_back(PyObject *self, PyObject *position);
PyObject *taker_waits(PyObject *self, PyObject *none);
PyObject *taker_poll(PyObject *self, PyObject *none);
PyObject *taker_task_done(PyObject *self, PyObject *none);
PyObject *taker_finished(PyObject *self, PyObject *timeout);
PyObject *taker_reclaim(PyObject *self, PyObject *endpoint);
PyObject *taker_rouse(PyObject *self, PyObject *none);
PyObject *taker_keeper(PyObject *self, PyObject *none);

#endif
