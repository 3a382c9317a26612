/* Inbox: one process's receiving side.

Rule: there are no locks and no roles. Any thread and any event loop of the process may call collect() at any time; a
call is atomic under the GIL and returns armed, so whoever sleeps on the bell afterwards misses nothing, and nothing is
lost when a signal handler raises in the caller as soon as the call returns: what was moved lies in its ReplyBase, in
`fire` or in `news`.

The lanes are armed whenever no call runs: next() disarms mail only, except while it spins. Several inboxes may share a
Ring object, which is why it knows itself whether it is armed.

Foreign code (the garbage collector's finalizers) can run where a tuple is made, and where the last reference to a reply
is dropped. Tuples are made before the look; references are dropped when the ring is in order again.

It spins (spin.h) for the caller's budget, and now and then for longer, holding the GIL.

Rejected: a leader among the waiting threads, and a gate lock (both lost wake-ups or got stuck when a signal handler
raised). */

#include "binding.h"

static PyTypeObject *reply_type, *ring_type;

static PyObject *inbox_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    int bell;
    PyObject *given[RINGS] = {Py_None, Py_None, Py_None};
    if (kwargs && PyDict_Size(kwargs)) {
        PyErr_SetString(PyExc_TypeError, "Inbox() takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "iOO|O:Inbox", &bell, &given[REPLIES], &given[CONTROL], &given[MAIL]))
        return NULL;
    for (int i = 0; i < RINGS; i++)
        if (given[i] != Py_None && !PyObject_TypeCheck(given[i], ring_type)) {
            PyErr_SetString(PyExc_TypeError, "replies, control and mail must each be a Ring or None");
            return NULL;
        }
    Inbox *self = (Inbox *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self)
        return NULL;
    self->bell = bell;
    for (int i = 0; i < RINGS; i++)
        if (given[i] != Py_None) {
            self->rings[i] = (Ring *)Py_NewRef(given[i]);
            self->rings[i]->r.armed = true; /* by the consumer that died before us, perhaps */
        }
    self->spinners = SPINNERS;
    return (PyObject *)self;
}

static void inbox_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    for (int i = 0; i < RINGS; i++)
        Py_XDECREF((PyObject *)((Inbox *)object)->rings[i]);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static struct ring *lane(const Inbox *self, int i)
{
    return self->rings[i] ? &self->rings[i]->r : NULL;
}

static bool anything(const Inbox *self, int rings)
{
    for (int i = 0; i < rings; i++)
        if (lane(self, i) && ring_available(lane(self, i)))
            return true;
    return false;
}

/* --- sleeping and spinning, over the first `rings` rings: MAIL stands for the two lanes, RINGS for all */

static void disarm(struct ring *r)
{
    if (r && r->armed) {
        r->armed = false;
        store(r->h->sleeping, AWAKE);
    }
}

static void disarm_all(const Inbox *self, int rings)
{
    for (int i = 0; i < rings; i++)
        disarm(lane(self, i));
}

/* Armed on return. True: and nothing had arrived, so the bell will tell. (S) */
static bool arm(const Inbox *self, int rings)
{
    for (int i = 0; i < rings; i++) {
        struct ring *r = lane(self, i);
        if (r) {
            r->armed = true;
            store(r->h->sleeping, ASLEEP);
        }
    }
    fence();
    return !anything(self, rings);
}

static void trim(const Inbox *self, int rings)
{
    for (int i = 0; i < rings; i++)
        if (lane(self, i))
            ring_trim(lane(self, i));
}

/* Spin, disarmed, until something arrives or `spin` microseconds (in the dark: more) have passed. True: something did. */
static bool watch(Inbox *self, int rings, double spin)
{
    struct spinner *habit = load(ring_found_awake) ? &self->spinners.awake : &self->spinners.woke;
    if (!spin_promises(habit, self->last ? load(self->last->h->last_cpu) : SPIN_ANY))
        return false;
    disarm_all(self, rings);
    uint64_t start = ring_now(CLOCK_MONOTONIC), now = start;
    uint64_t brief = (uint64_t)(spin < 1000 ? spin * 1000 : 1000000);
    uint64_t length = spin_length(habit, brief);
    bool came = false;
    do {
        for (int i = 0; i < 32 && !came; i++) {
            ring_pause();
            came = anything(self, rings);
        }
        now = ring_now(CLOCK_MONOTONIC);
    } while (!came && now - start < length);
    spin_learn_habit(&self->spinners, habit, came, now - start <= brief);
    return came;
}

/* --- collect */

struct places {
    PyObject *table, *fire, *news, *mine;
};

/* The ReplyBase that waits for this record, a new reference, and its key. NULL: nobody waits, or an exception. */
static Reply *asker(const struct places *to, uint64_t corr, PyObject **key)
{
    if (!corr || !(*key = PyLong_FromUnsignedLongLong(corr)))
        return NULL;
    PyObject *reply = PyDict_GetItemWithError(to->table, *key);
    if (!reply || PyObject_TypeCheck(reply, reply_type))
        return (Reply *)Py_XNewRef(reply);
    PyErr_SetString(PyExc_TypeError, "the table must hold ReplyBase objects");
    return NULL;
}

/* (kind, flags, sender, corr, body) */
static bool report(PyObject *news, const struct view *v, PyObject *tuple)
{
    const struct record *q = v->record;
    PyObject *items[5] = {
        PyLong_FromLong(q->kind),
        PyLong_FromLong(q->flags),
        PyLong_FromUnsignedLongLong(q->sender),
        PyLong_FromUnsignedLongLong(q->corr),
        PyBytes_FromStringAndSize((const char *)(q + 1), v->length),
    };
    bool whole = true;
    for (int i = 0; i < 5; i++) {
        whole = whole && items[i];
        PyTuple_SetItem(tuple, i, items[i]);
    }
    return whole && !PyList_Append(news, tuple);
}

/* Move the peeked record to its place. False: an exception is set and the record is still there. The record ends here;
   it needs no state. */
static bool move(Inbox *self, struct ring *r, const struct view *v, const struct places *to, PyObject *tuple)
{
    PyObject *key = NULL;
    Reply *reply = asker(to, v->record->corr, &key);
    bool moved = !PyErr_Occurred() && (reply ? reply_fill(reply, v, to->fire) : !tuple || report(to->news, v, tuple));
    if (moved) {
        r->next = v->position + v->size;
        store(r->h->handled.count, load(r->h->handled.count) + 1);
        self->last = r;
        if (reply) {
            if ((PyObject *)reply != to->mine)
                reply_wake(reply);
            PyDict_DelItem(to->table, key);
        }
    }
    Py_XDECREF(key);
    /* the last reference, perhaps: its finalizer may collect() too, and finds a ring in order */
    Py_XDECREF((PyObject *)reply);
    return moved;
}

/* Move all records of a lane. How many, or -1 with an exception. */
static Py_ssize_t drain(Inbox *self, int i, const struct places *to)
{
    struct ring *r = lane(self, i);
    struct view v;
    Py_ssize_t count = 0;
    bool good = true;
    while (good && r && ring_available(r)) {
        PyObject *tuple = i == CONTROL ? PyTuple_New(5) : NULL; /* before the look: it may run the garbage collector */
        int found = i == CONTROL && !tuple ? -1 : ring_peek(r, &v);
        if (found == RING_CORRUPT)
            corrupt(r, "a record's header makes no sense");
        good = found == 0 || (found == 1 && move(self, r, &v, to, tuple));
        count += found == 1 && good;
        Py_XDECREF(tuple);
    }
    if (r && r->head != r->next) {
        r->head = r->next;
        store_release(r->h->head, r->head); /* (H) */
        ring_wake_senders(r, false);
    }
    return good ? count : -1;
}

static void strike(const Inbox *self)
{
    uint64_t one = 1;
    if (write(self->bell, &one, sizeof one) < 0)
        errno = 0; /* EAGAIN: it is full, and rings */
}

/* Read the bell. Mail may have rung it too, which collect can't deliver: who sleeps for it shall still hear. */
static void clear_lanes_bell(const Inbox *self)
{
    const struct ring *mail = lane(self, MAIL);
    uint64_t count;
    if (read(self->bell, &count, sizeof count) < 0)
        errno = 0; /* EAGAIN: another thread has read it */
    else if (mail && mail->armed && ring_available(lane(self, MAIL)))
        strike(self);
}

/* collect(table, fire, news, spin, mine, clear) */
static PyObject *inbox_collect(PyObject *object, PyObject *const *args, Py_ssize_t n)
{
    Inbox *self = (Inbox *)object;
    if (!arity("collect", n, 6))
        return NULL;
    struct places to = {args[0], args[1], args[2], args[4]};
    double spin = PyFloat_AsDouble(args[3]);
    int clear = PyObject_IsTrue(args[5]);
    if (PyErr_Occurred())
        return NULL;
    if (!PyDict_Check(to.table) || !PyList_Check(to.fire) || !PyList_Check(to.news)) {
        PyErr_SetString(PyExc_TypeError, "collect() takes a dict and two lists");
        return NULL;
    }
    if (clear)
        clear_lanes_bell(self);
    if (PyObject_TypeCheck(to.mine, reply_type) && ((Reply *)to.mine)->kind >= 0)
        spin = 0;
    Py_ssize_t total = 0;
    do {
        disarm_all(self, MAIL);
        Py_ssize_t answers = drain(self, REPLIES, &to), notices = answers < 0 ? -1 : drain(self, CONTROL, &to);
        if (notices < 0) {
            if (!arm(self, MAIL))
                strike(self); /* for the others that sleep: what came while we were awake has rung nobody */
            return NULL;
        }
        total += answers + notices;
        if (total == 0 && spin > 0 && watch(self, MAIL, spin))
            spin = 0;
    } while (!arm(self, MAIL));
    if (total == 0)
        trim(self, MAIL);
    return PyLong_FromSsize_t(total);
}

/* --- the actor's loop */

bool inbox_done(Inbox *self)
{
    if (!self->busy)
        return true;
    self->busy = false;
    if (ring_done(lane(self, MAIL), self->position))
        return true;
    corrupt(lane(self, MAIL), "the record in hand was overwritten");
    return false;
}

/* The next mail, in hand. NULL without an exception: there is none. */
PyObject *inbox_take(Inbox *self)
{
    Ring *mail = self->rings[MAIL];
    PyObject *record = mail ? record_take(mail, &self->position) : NULL;
    if (record) {
        self->busy = true;
        self->last = &mail->r;
    }
    return record;
}

enum came inbox_look(Inbox *self, double spin)
{
    for (;; spin = 0) {
        disarm(lane(self, MAIL));
        if (anything(self, MAIL))
            return CAME_LANES;
        if (lane(self, MAIL) && ring_available(lane(self, MAIL)))
            return CAME_MAIL;
        if (spin > 0 && watch(self, RINGS, spin)) {
            arm(self, MAIL);
        } else if (arm(self, RINGS)) {
            trim(self, RINGS);
            return CAME_NOTHING;
        }
    }
}

/* next(spin) */
static PyObject *inbox_next(PyObject *object, PyObject *argument)
{
    Inbox *self = (Inbox *)object;
    double spin = PyFloat_AsDouble(argument);
    if ((spin == -1.0 && PyErr_Occurred()) || !inbox_done(self))
        return NULL;
    for (;;) {
        enum came came = inbox_look(self, spin);
        if (came != CAME_MAIL)
            return came == CAME_LANES ? PyLong_FromLong(1) : Py_NewRef(Py_None);
        PyObject *record = inbox_take(self);
        if (record || PyErr_Occurred())
            return record;
    }
}

static PyObject *inbox_hold(PyObject *object, PyObject *Py_UNUSED(none))
{
    Inbox *self = (Inbox *)object;
    if (!self->busy) {
        PyErr_SetString(PyExc_RuntimeError, "hold(): there is no record in hand");
        return NULL;
    }
    self->busy = false;
    return PyLong_FromUnsignedLongLong(self->position);
}

static PyObject *inbox_finish(PyObject *object, PyObject *Py_UNUSED(none))
{
    return inbox_done((Inbox *)object) ? Py_NewRef(Py_None) : NULL;
}

static PyObject *inbox_clear(PyObject *object, PyObject *Py_UNUSED(none))
{
    uint64_t rung;
    if (read(((Inbox *)object)->bell, &rung, sizeof rung) < 0 && errno != EAGAIN && errno != EINTR)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyMethodDef inbox_methods[] = {
    FAST("collect", inbox_collect),
    {"next", inbox_next, METH_O, NULL},
    FAST("run", inbox_run),
    {"current", inbox_current, METH_NOARGS, NULL},
    {"hold", inbox_hold, METH_NOARGS, NULL},
    {"finish", inbox_finish, METH_NOARGS, NULL},
    {"clear", inbox_clear, METH_NOARGS, NULL},
    {0},
};

static PyMemberDef inbox_members[] = {
    {"caller", T_ULONGLONG, offsetof(Inbox, caller), 0, NULL},
    {"left", T_INT, offsetof(Inbox, left), 0, NULL},
    {0},
};

static PyType_Slot inbox_slots[] = {{Py_tp_new, inbox_new},
                                    {Py_tp_dealloc, inbox_dealloc},
                                    {Py_tp_methods, inbox_methods},
                                    {Py_tp_members, inbox_members},
                                    {0}};

static PyType_Spec inbox_spec = {"actors.transports._ring.Inbox", sizeof(Inbox), 0, Py_TPFLAGS_DEFAULT, inbox_slots};

bool inbox_register(PyObject *module, PyTypeObject *ring, PyTypeObject *reply)
{
    ring_type = ring;
    reply_type = reply;
    PyTypeObject *type = (PyTypeObject *)PyType_FromSpec(&inbox_spec);
    return type && !PyModule_AddType(module, type);
}
