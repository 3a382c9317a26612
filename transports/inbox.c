/* Inbox: one process's receiving side. ReplyBase: the C part of a pending answer.

Rule: there are no locks and no roles. Any thread and any event loop of the process may call collect() at any time; a call is atomic under
the GIL and returns armed, so whoever sleeps on the bell afterwards misses nothing, and nothing is lost when a signal handler raises in
the caller as soon as the call returns: what was moved lies in its ReplyBase, in `fire` or in `news`.
Only the tuples of `news` and of next() can run foreign code (the garbage collector) while they are made. They are made before the look.

When to spin (at most the caller's budget, holding the GIL): never when the last sender ran on this CPU (it can't send while we spin), and
rarely while spins did not pay lately (a moving rate; 8, 16 ... 256 waits are then left out before the next try).
Rejected: fixed spinning (3 to 10 times worse than none when cores are short); sched_yield (ruinous beside busy processes);
a leader among the waiting threads, and a gate lock (both lost wake-ups or got stuck when a signal handler raised). */

#include "binding.h"

enum { REPLIES, CONTROL, MAIL, RINGS }; /* collect looks at replies first: an answer wins over the news of its sender's death */

typedef struct {
    PyObject_HEAD
    PyObject *body, *cbs;
    unsigned long long sender;
    int kind, flags, waitfd;
} Reply;

typedef struct {
    PyObject_HEAD
    Ring *rings[RINGS];
    int bell;
    unsigned armed;             /* bit i: ring i's `sleeping` may be set */
    bool busy;                  /* there is a record in hand, */
    uint64_t position;          /* here */
    struct ring *last;          /* the ring that delivered last */
    uint32_t rate, skip, probe; /* of the spins that paid (of 256); waits to leave out; how many the next time */
} Inbox;

static PyTypeObject *reply_type, *ring_type;

/* --- ReplyBase */

static PyObject *reply_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    Reply *self = (Reply *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (self)
        self->kind = self->waitfd = -1;
    return (PyObject *)self;
}

static int reply_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((Reply *)object)->body);
    Py_VISIT(((Reply *)object)->cbs);
    return 0;
}

static int reply_clear(PyObject *object)
{
    Py_CLEAR(((Reply *)object)->body);
    Py_CLEAR(((Reply *)object)->cbs);
    return 0;
}

static void reply_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    reply_clear(object);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyMemberDef reply_members[] = {
    {"kind", T_INT, offsetof(Reply, kind), 0, NULL},      {"flags", T_INT, offsetof(Reply, flags), 0, NULL},
    {"sender", T_ULONGLONG, offsetof(Reply, sender), 0, NULL}, {"body", T_OBJECT, offsetof(Reply, body), 0, NULL},
    {"cbs", T_OBJECT, offsetof(Reply, cbs), 0, NULL},     {"waitfd", T_INT, offsetof(Reply, waitfd), 0, NULL},
    {0},
};

static PyType_Slot reply_slots[] = {
    {Py_tp_new, reply_new},     {Py_tp_dealloc, reply_dealloc}, {Py_tp_traverse, reply_traverse},
    {Py_tp_clear, reply_clear}, {Py_tp_members, reply_members}, {0},
};

static PyType_Spec reply_spec = {
    "actors.transports._ring.ReplyBase", sizeof(Reply), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, reply_slots,
};

/* --- Inbox */

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
        self->rings[i] = given[i] == Py_None ? NULL : (Ring *)Py_NewRef(given[i]);
    self->armed = (1u << RINGS) - 1; /* by the consumer that died before us, perhaps */
    self->rate = 128;
    self->probe = 8;
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

/* --- sleeping and spinning, over the first `rings` rings */

static void disarm(Inbox *self, int rings)
{
    for (int i = 0; self->armed && i < rings; i++) {
        if (self->armed & 1u << i && lane(self, i))
            store(lane(self, i)->h->sleeping, AWAKE);
        self->armed &= ~(1u << i);
    }
}

/* True: armed, and nothing had arrived, so the bell will tell. False: something is there; disarmed. (S) */
static bool arm(Inbox *self, int rings)
{
    for (int i = 0; i < rings; i++)
        if (lane(self, i))
            store(lane(self, i)->h->sleeping, ASLEEP);
    self->armed |= (1u << rings) - 1;
    fence();
    if (!anything(self, rings))
        return true;
    disarm(self, rings);
    return false;
}

static void trim(Inbox *self, int rings)
{
    for (int i = 0; i < rings; i++)
        if (lane(self, i))
            ring_trim(lane(self, i));
}

/* Does a spin have a chance? */
static bool promising(Inbox *self)
{
    if (self->last && load(self->last->h->last_cpu) == (uint32_t)sched_getcpu())
        return false;
    if (self->skip == 0)
        return true;
    self->skip--;
    return false;
}

static void learn(Inbox *self, bool paid)
{
    self->rate = paid ? self->rate + ((256 - self->rate) >> 3) : self->rate - (self->rate >> 3);
    if (self->rate >= 64) {
        self->probe = 8;
    } else if (paid) { /* a try out of the dark: believe it */
        self->rate = 100;
        self->probe = 8;
    } else {
        self->rate = 60;
        self->skip = self->probe;
        self->probe = self->probe < 256 ? self->probe * 2 : 256;
    }
}

/* Spin until something arrives or `spin` microseconds have passed. True: something arrived. */
static bool watch(Inbox *self, int rings, double spin)
{
    if (!promising(self))
        return false;
    uint64_t end = ring_now(CLOCK_MONOTONIC) + (uint64_t)(spin < 1000 ? spin * 1000 : 1000000);
    bool paid = false;
    do {
        for (int i = 0; i < 32 && !paid; i++) {
            ring_pause();
            paid = anything(self, rings);
        }
    } while (!paid && ring_now(CLOCK_MONOTONIC) < end);
    learn(self, paid);
    return paid;
}

/* --- collect */

/* Put an answer where its asker looks, and wake the asker. False: an exception is set and nothing has changed. */
static bool fill(PyObject *table, PyObject *key, Reply *reply, const struct view *v, PyObject *fire, PyObject *mine)
{
    const struct record *q = v->record;
    PyObject *body = PyBytes_FromStringAndSize((const char *)(q + 1), v->length);
    bool called_back = reply->cbs && reply->cbs != Py_None;
    if (!body || (called_back && PyList_Append(fire, (PyObject *)reply))) {
        Py_XDECREF(body);
        return false;
    }
    PyObject *before = reply->body;
    reply->body = body;
    reply->flags = q->flags;
    reply->sender = q->sender;
    reply->kind = q->kind;
    uint64_t one = 1;
    if (reply->waitfd >= 0 && (PyObject *)reply != mine && write(reply->waitfd, &one, sizeof one) < 0)
        errno = 0; /* EAGAIN: told often enough */
    PyDict_DelItem(table, key);
    Py_XDECREF(before);
    return true;
}

struct places {
    PyObject *table, *fire, *news, *mine;
};

/* A record to the ReplyBase that waits for it. 1: moved, 0: nobody waits, -1: an exception is set. */
static int correlate(const struct view *v, const struct places *to)
{
    if (!v->record->corr)
        return 0;
    PyObject *key = PyLong_FromUnsignedLongLong(v->record->corr);
    PyObject *reply = key ? PyDict_GetItemWithError(to->table, key) : NULL;
    int moved = reply ? 1 : PyErr_Occurred() ? -1 : 0;
    if (moved == 1) {
        Py_INCREF(reply);
        if (!PyObject_TypeCheck(reply, reply_type)) {
            PyErr_SetString(PyExc_TypeError, "the table must hold ReplyBase objects");
            moved = -1;
        } else if (!fill(to->table, key, (Reply *)reply, v, to->fire, to->mine)) {
            moved = -1;
        }
        Py_DECREF(reply);
    }
    Py_XDECREF(key);
    return moved;
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

/* Move one record of a lane. 1: moved, 0: the lane is empty, -1: an exception is set and the record is still there. */
static int move(Inbox *self, struct ring *r, const struct places *to, bool news)
{
    struct view v;
    PyObject *tuple = NULL;
    if (!ring_available(r))
        return 0;
    if (news && !(tuple = PyTuple_New(5))) /* before the look: it may run the garbage collector */
        return -1;
    int moved = ring_peek(r, &v);
    if (moved == RING_CORRUPT) {
        corrupt(r, "a record's header makes no sense");
    } else if (moved == 1) {
        int found = correlate(&v, to);
        if (found < 0 || (!found && news && !report(to->news, &v, tuple))) {
            moved = -1;
        } else {
            r->next += v.size;
            self->last = r;
        }
    }
    Py_XDECREF(tuple);
    return moved < 0 ? -1 : moved;
}

/* Move all records of a lane. How many, or -1. The records end here, so they need no state: one step of the head settles them all. */
static Py_ssize_t drain(Inbox *self, int i, const struct places *to)
{
    struct ring *r = lane(self, i);
    Py_ssize_t count = 0;
    int moved;
    if (!r)
        return 0;
    while ((moved = move(self, r, to, i == CONTROL)) > 0)
        count++;
    if (r->head != r->next) {
        store(r->h->handled.count, load(r->h->handled.count) + (uint64_t)count);
        r->head = r->next;
        store_release(r->h->head, r->head); /* (H) */
        ring_wake_senders(r, false);
    }
    return moved < 0 ? -1 : count;
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
    uint64_t rung;
    if (clear && read(self->bell, &rung, sizeof rung) < 0)
        errno = 0; /* EAGAIN: another thread has read it */
    if (PyObject_TypeCheck(to.mine, reply_type) && ((Reply *)to.mine)->kind >= 0)
        spin = 0;
    disarm(self, MAIL);
    Py_ssize_t total = 0;
    do {
        Py_ssize_t answers = drain(self, REPLIES, &to), notices = answers < 0 ? -1 : drain(self, CONTROL, &to);
        if (notices < 0)
            return NULL;
        total += answers + notices;
        if (total == 0 && spin > 0 && watch(self, MAIL, spin))
            spin = 0;
    } while (!arm(self, MAIL));
    if (total == 0)
        trim(self, MAIL);
    return PyLong_FromSsize_t(total);
}

/* --- the actor's loop */

static bool finish(Inbox *self)
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
static PyObject *take(Inbox *self)
{
    Ring *mail = self->rings[MAIL];
    PyObject *record = mail ? record_take(mail, &self->position) : NULL;
    if (record) {
        self->busy = true;
        self->last = &mail->r;
    }
    return record;
}

/* next(spin) */
static PyObject *inbox_next(PyObject *object, PyObject *argument)
{
    Inbox *self = (Inbox *)object;
    double spin = PyFloat_AsDouble(argument);
    if ((spin == -1.0 && PyErr_Occurred()) || !finish(self))
        return NULL;
    disarm(self, RINGS);
    for (;;) {
        if (anything(self, MAIL))
            return PyLong_FromLong(1);
        PyObject *record = take(self);
        if (record || PyErr_Occurred())
            return record;
        if (spin > 0 && watch(self, RINGS, spin)) {
            spin = 0;
        } else if (arm(self, RINGS)) {
            trim(self, RINGS);
            Py_RETURN_NONE;
        }
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
    return finish((Inbox *)object) ? Py_NewRef(Py_None) : NULL;
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
    {"hold", inbox_hold, METH_NOARGS, NULL},
    {"finish", inbox_finish, METH_NOARGS, NULL},
    {"clear", inbox_clear, METH_NOARGS, NULL},
    {0},
};

static PyType_Slot inbox_slots[] = {{Py_tp_new, inbox_new}, {Py_tp_dealloc, inbox_dealloc}, {Py_tp_methods, inbox_methods}, {0}};

static PyType_Spec inbox_spec = {"actors.transports._ring.Inbox", sizeof(Inbox), 0, Py_TPFLAGS_DEFAULT, inbox_slots};

bool inbox_register(PyObject *module, PyTypeObject *ring)
{
    ring_type = ring;
    reply_type = (PyTypeObject *)PyType_FromSpec(&reply_spec);
    PyTypeObject *inbox_type = (PyTypeObject *)PyType_FromSpec(&inbox_spec);
    return reply_type && inbox_type && !PyModule_AddType(module, reply_type) && !PyModule_AddType(module, inbox_type);
}
