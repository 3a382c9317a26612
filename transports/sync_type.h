/* What sync.c (the type) and permits.c (its acquire and release) share. */

#ifndef ACTORS_SYNC_TYPE_H
#define ACTORS_SYNC_TYPE_H

#include "binding.h"
#include "sync.h"

struct mapping {
    struct sync_page *page;
    int users; /* the object, and its threads that sleep */
};

typedef struct {
    PyObject_HEAD struct sync s;
    struct mapping *mapping;
    int open;
} Sync;

/* Ask the subclass. False: it has raised. */
bool sync_call(Sync *self, const char *method);

static inline bool sync_ready(Sync *self)
{
    return self->open || (sync_call(self, "_reopen") && self->open);
}

/* Coroutines may have this much; whoever was killed or cut off before it said so has the guardian say it. */
void sync_tell(Sync *self, uint32_t permits);

/* Sleep a slice. 0 and so on as sync_sleep, -1: an exception. */
int sync_doze(Sync *self, uint64_t seen, uint64_t ns);

PyObject *permits_acquire(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names);
PyObject *permits_release(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names);
PyObject *permits_enter(PyObject *self, PyObject *none);
PyObject *permits_exit(PyObject *self, PyObject *const *args, Py_ssize_t n);
PyObject *permits_try(PyObject *self, PyObject *none);

#endif
