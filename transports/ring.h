/* The ring: many producers, one consumer, variable-length records in a sealed memfd. Pure C; knows nothing of Python.

Rules
- Producers take a robust lock, write past the tail, publish the tail, unlock, then ring the bell if the consumer said
  that it sleeps. What lies behind the tail was never sent: a producer that dies half-way leaves nothing but its lock,
  and the next one inherits that.
- The consumer takes no lock. A record carries its own state and the head passes over what is settled: mail outlives its
  consumer, what was in hand is known, handlers may finish out of order.
- The owner (the guardian) takes no lock either: no program that scribbles over the mutex, or is stopped while it holds
  it, can hold the owner up.
- Nobody trusts the shared words: every position and length is checked against the capacity before it is used as an
  address. The mutex is the exception (glibc follows its list pointers), and only producers touch it.
- Pages are populated up to 64 KiB ahead of the tail, which turns a full machine into an error where touching them would
  be a SIGBUS, and are given back when the consumer goes to sleep over an empty ring.

Rejected
- Lock-free reservation: a stopped writer would block the consumer's head instead of the other writers, and nobody could
  nudge it on.
- posix_fallocate of the whole capacity: 1 ms and all of it resident; in a memory cgroup it is a SIGKILL all the same.
- MADV_DONTFORK: a forked child that touches the ring should find it.

Atomics are paired by the letters in comments: (H) head, (T) tail, (S) sleeping, (W) space_wait, (C) closed. */

#ifndef ACTORS_RING_H
#define ACTORS_RING_H

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "layout.h"
#include "spin.h"

#ifndef MADV_POPULATE_WRITE /* Linux 5.14 */
#define MADV_POPULATE_WRITE 23
#endif

#define RING_AHEAD (UINT64_C(64) << 10) /* populated ahead of the tail */
#define RING_TRIM (UINT64_C(1) << 20)   /* an idle ring keeps at most this much memory */
#define RING_SLOT 256                   /* what an asker reserves in its reply lane for each open ask */

/* What `ring_write` says instead of a position. */
enum { RING_FULL = -1, RING_CLOSED = -2, RING_STUCK = -3, RING_NOMEM = -4, RING_CORRUPT = -5 };

/* One process's view of a ring. */
struct ring {
    struct header *h;
    char *data; /* capacity bytes, twice in a row */
    uint64_t capacity, mask;
    int bell;                  /* eventfd, borrowed; -1 none */
    int fault;                 /* RING_FAULTS builds: where to die, or negative: to stop */
    uint64_t seen_head;        /* producers', under the lock */
    uint64_t head, next, tail; /* the consumer's: its own head, its reading position, the tail that it saw */
    bool armed;                /* the consumer's: `sleeping` may be set */
    bool shared;               /* there are several consumers (takers.h); then: */
    uint64_t most;             /* records that may wait, 0: any number */
    _Atomic uint64_t me;       /* endpoint of this process, 0: it has left */
    struct spinner spinner;
};

/* One record, checked: its words were read once and lie inside the ring. */
struct view {
    struct record *record;
    uint64_t position, size;
    uint32_t length;
};

struct message {
    const void *body;
    uint64_t length, sender, corr, deadline;
    uint16_t kind, flags;
};

#define load(word) atomic_load_explicit(&(word), memory_order_relaxed)
#define load_acquire(word) atomic_load_explicit(&(word), memory_order_acquire)
#define store(word, value) atomic_store_explicit(&(word), (value), memory_order_relaxed)
#define store_release(word, value) atomic_store_explicit(&(word), (value), memory_order_release)
#define fence() atomic_thread_fence(memory_order_seq_cst)

#ifdef RING_FAULTS
#define FAULT(r, point) \
    ((r)->fault == (point) ? (void)raise(SIGKILL) : (r)->fault == -(point) ? (void)raise(SIGSTOP) : (void)0)
#else
#define FAULT(r, point) ((void)0)
#endif

static inline void ring_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static inline uint64_t ring_now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline long ring_futex(_Atomic uint32_t *word, int operation, uint32_t value, const struct timespec *timeout)
{
    return syscall(SYS_futex, word, operation, value, timeout, NULL, 0);
}

static inline uint64_t ring_size(uint64_t length)
{
    return (sizeof(struct record) + length + 7) & ~UINT64_C(7);
}

static inline uint32_t ring_mark(uint64_t position)
{
    return (uint32_t)(position >> 3) ^ 0x52494e47u;
}

static inline enum state ring_state(const struct record *record)
{
    return (enum state)(load(record->state) & 0xff);
}

/* The record at `position`, which must end by `end`. False: the ring is corrupt there. */
static inline bool ring_view(const struct ring *r, uint64_t position, uint64_t end, struct view *v)
{
    uint64_t left = end - position;
    if ((position & 7) || left < sizeof(struct record) || left > r->capacity)
        return false;
    v->record = (struct record *)(r->data + (position & r->mask));
    v->position = position;
    v->length = load(v->record->length);
    v->size = ring_size(v->length);
    return v->size <= left && v->record->mark == ring_mark(position) && ring_state(v->record) <= CANCELLED;
}

/* --- counts */

static inline void tally_intend(struct tally *t, uint64_t at)
{
    store_release(t->at, at); /* before `next`: an intent that counts names its own place */
    store_release(t->next, load(t->count) + 1);
    atomic_signal_fence(memory_order_seq_cst);
}

static inline void tally_settle(struct tally *t)
{
    store_release(t->count, load(t->next));
}

/* Settle the count of a dead writer whose fact is that the record at `at` is in `state`. */
static inline void tally_mend(const struct ring *r, struct tally *t, enum state state)
{
    struct view v;
    uint64_t at = load(t->at), head = load(r->h->head), tail = load(r->h->tail);
    if (load(t->next) == load(t->count) + 1 && at - head < tail - head && ring_view(r, at, tail, &v) &&
        ring_state(v.record) == state)
        tally_settle(t);
}

/* --- the producers' lock */

/* Forget which pages are present; nothing is lost by populating a page twice. */
static inline void ring_forget_pages(struct header *h)
{
    uint64_t page = load(h->tail) & ~UINT64_C(4095);
    store(h->populated_end, page);
    store(h->populated_base, page);
}

static inline int ring_inherit(struct ring *r, int rc)
{
    struct header *h = r->h;
    if (rc != EOWNERDEAD)
        return rc;
    pthread_mutex_consistent(&h->lock);
    if (load(h->accepted.at) == load(h->tail))
        tally_settle(&h->accepted);
    tally_mend(r, &h->cancelled, CANCELLED);
    ring_forget_pages(h); /* it may have died between the pages and their mark */
    store(h->recovered, load(h->recovered) + 1);
    return 0;
}

static inline int ring_trylock(struct ring *r)
{
    return ring_inherit(r, pthread_mutex_trylock(&r->h->lock));
}

static inline int ring_lock_until(struct ring *r, uint64_t until)
{
    struct timespec t = {(time_t)(until / 1000000000u), (long)(until % 1000000000u)};
    return ring_inherit(r, pthread_mutex_clocklock(&r->h->lock, CLOCK_MONOTONIC, &t));
}

static inline void ring_unlock(struct ring *r)
{
    pthread_mutex_unlock(&r->h->lock);
}

/* (C) Called with the lock held. The closer writes `closed`, then reads the lock's word; a producer writes the lock's
   word, then reads `closed`: each needs a full fence between the two. On x86 the lock's own instruction is one. */
static inline bool ring_closed(const struct ring *r)
{
#if !defined(__x86_64__) && !defined(__i386__)
    fence();
#endif
    return load(r->h->closed) != 0;
}

/* tid of the lock's owner; 0: free, or the owner is dead and nobody has inherited yet (the kernel cleared the tid). */
static inline uint32_t ring_owner(const struct ring *r)
{
    return (uint32_t)__atomic_load_n(&r->h->lock.__data.__lock, __ATOMIC_SEQ_CST) & FUTEX_TID_MASK;
}

/* --- producers, with the lock held (or alone by contract) */

/* 1: `need` <= `limit` bytes fit without using more than `limit`; else RING_FULL or RING_CORRUPT. */
static inline int64_t ring_room(struct ring *r, uint64_t tail, uint64_t need, uint64_t limit)
{
    if ((tail & 7) || tail >> 63)
        return RING_CORRUPT;
    if (tail - r->seen_head <= limit - need)
        return 1;
    r->seen_head = load_acquire(r->h->head); /* (H) */
    if (tail - r->seen_head > r->capacity)
        return RING_CORRUPT;
    return tail - r->seen_head <= limit - need ? 1 : RING_FULL;
}

/* Pages up to position `to` are present, and some more. False: no memory. */
static inline bool ring_populate(struct ring *r, uint64_t to)
{
    struct header *h = r->h;
    uint64_t end = load(h->populated_end), base = load(h->populated_base);
    if ((int64_t)(to - end) <= 0 || end - base >= r->capacity)
        return true;
    uint64_t step = end - base < RING_AHEAD ? RING_AHEAD / 4 : RING_AHEAD; /* most lanes never hold many records */
    uint64_t length = (to - end + step) & ~(step - 1);
    if (length > r->capacity)
        length = r->capacity;
    if (madvise(r->data + (end & r->mask), length, MADV_POPULATE_WRITE) &&
        errno != EINVAL) /* EINVAL: Linux before 5.14 */
        return false;
    store(h->populated_end, end + length);
    return true;
}

/* Append one record and publish it. Its position, RING_FULL, RING_NOMEM or RING_CORRUPT. */
static inline int64_t ring_write(struct ring *r, const struct message *m, uint64_t limit)
{
    struct header *h = r->h;
    uint64_t tail = load(h->tail), size = ring_size(m->length);
    int64_t room = ring_room(r, tail, size, limit);
    if (room < 0)
        return room;
    if (!ring_populate(r, tail + size))
        return RING_NOMEM;
    struct record *record = (struct record *)(r->data + (tail & r->mask));
    store(record->length, (uint32_t)m->length);
    store(record->state, NEW);
    record->kind = m->kind;
    record->flags = m->flags;
    record->mark = ring_mark(tail);
    record->sender = m->sender;
    record->corr = m->corr;
    record->deadline = m->deadline;
#ifdef RING_FAULTS
    memcpy(record + 1, m->body, m->length / 2);
#endif
    FAULT(r, 2);
    memcpy(record + 1, m->body, m->length);
    FAULT(r, 3);
    tally_intend(&h->accepted, tail + size);
    store(h->last_cpu, (uint32_t)sched_getcpu());
    store_release(h->tail, tail + size); /* (T) */
    FAULT(r, 4);
    tally_settle(&h->accepted);
    return (int64_t)tail;
}

/* Records ever published: also the one whose producer died, or stands, between the tail and the count. Looked at twice:
   between two of these loads one producer may settle its count, and the next one write its intent. */
static inline uint64_t ring_accepted(struct header *h)
{
    struct tally *t = &h->accepted;
    uint64_t tail, count, at, next;
    int tries = 1000; /* a scribbler must not keep us here */
    do {
        tail = load_acquire(h->tail);
        count = load_acquire(t->count);
        at = load_acquire(t->at);
        next = load_acquire(t->next);
    } while ((load_acquire(t->at) != at || load_acquire(t->count) != count || load(h->tail) != tail) && --tries);
    return at == tail ? next : count;
}

static inline void ring_strike(const struct ring *r)
{
    uint64_t one = 1;
    if (r->bell >= 0 && write(r->bell, &one, sizeof one) < 0)
        return; /* EAGAIN: the counter is full, so the reader has been told often enough */
}

extern _Atomic bool ring_found_awake; /* did this process's last send find its reader awake? For spin.h */

/* Wake the consumer if it sleeps. (S) tail written, fence, `sleeping` read; the consumer writes `sleeping`, fence,
   reads the tail: one of the two sees the other. */
static inline void ring_bell(struct ring *r)
{
    uint32_t asleep = ASLEEP;
    fence();
    bool awake = load(r->h->sleeping) == AWAKE;
    store(ring_found_awake, awake);
    if (!awake && atomic_compare_exchange_strong(&r->h->sleeping, &asleep, RUNG)) {
        FAULT(r, 6);
        ring_strike(r);
    }
}

/* Sleep until there may be room or `nanoseconds` have passed. (W) `space_wait` written, fence, head read; the consumer
   the other way. */
static inline void ring_await_room(struct ring *r, uint64_t need, uint64_t limit, uint64_t nanoseconds)
{
    struct header *h = r->h;
    struct timespec t = {0, (long)nanoseconds};
    store(h->space_wait, 1);
    fence();
    if (load(h->tail) - load(h->head) > limit - need && !load(h->closed))
        ring_futex(&h->space_wait, FUTEX_WAIT, 1, &t);
}

/* --- consumer */

static inline void ring_wake_senders(struct ring *r, bool anyway)
{
    struct header *h = r->h;
    fence(); /* (W) */
    if (!load(h->space_wait))
        return;
    /* Not for each single record of a full ring: a sender that wakes up takes the processor from the consumer if there is
       no other. Half, three quarters or a quarter made no difference beyond the noise with four senders on two. */
    if (anyway || load(h->tail) - load(h->head) <= r->capacity / 2) {
        store(h->space_wait, 0);
        ring_futex(&h->space_wait, FUTEX_WAKE, INT_MAX, NULL);
    }
}

/* Start reading at the shared head (a new consumer). */
static inline void ring_rewind(struct ring *r)
{
    r->head = r->next = r->tail = load_acquire(r->h->head);
}

static inline bool ring_available(struct ring *r)
{
    if (r->next == r->tail)
        r->tail = load_acquire(r->h->tail); /* (T) */
    return r->next != r->tail;
}

/* Move the head over what is settled, up to the reading position. False: corrupt. */
static inline bool ring_advance(struct ring *r)
{
    struct view v;
    uint64_t head = r->head, since = 0;
    while (head != r->next) {
        if (!ring_view(r, head, r->next, &v))
            return false;
        if (ring_state(v.record) < DONE) {
            since = ring_state(v.record) == STARTED ? load(v.record->since) : 0;
            break;
        }
        head += v.size;
    }
    store(r->h->busy_since, since);
    if (head != r->head) {
        r->head = head;
        store_release(r->h->head, head); /* (H) */
        ring_wake_senders(r, false);
    }
    return true;
}

/* The next NEW record: 1 found, 0 nothing there, RING_CORRUPT. */
static inline int ring_peek(struct ring *r, struct view *v)
{
    bool passed = false;
    int found = 0;
    while (!found && ring_available(r)) {
        if (r->tail - r->head > r->capacity || !ring_view(r, r->next, r->tail, v))
            return RING_CORRUPT;
        if (ring_state(v->record) == NEW) {
            found = 1;
        } else {
            r->next += v->size;
            passed = true;
        }
    }
    if (passed && !ring_advance(r))
        return RING_CORRUPT;
    return found;
}

/* Take the peeked record in hand. False: its sender cancelled it meanwhile. */
static inline bool ring_start(struct ring *r, const struct view *v)
{
    uint32_t state = load(v->record->state);
    uint64_t now = ring_now(CLOCK_MONOTONIC_COARSE);
    if ((state & 0xff) != NEW || !atomic_compare_exchange_strong(&v->record->state, &state, state | STARTED))
        return false;
    store(v->record->since, now);
    if (r->head == r->next)
        store(r->h->busy_since, now);
    r->next = v->position + v->size;
    return true;
}

/* A record in hand is handled. Nothing happens if it is not in hand. False: corrupt. */
static inline bool ring_done(struct ring *r, uint64_t position)
{
    struct view v;
    if (position - r->head >= r->next - r->head)
        return true;
    if (!ring_view(r, position, r->next, &v))
        return false;
    uint32_t state = load(v.record->state);
    if ((state & 0xff) != STARTED)
        return true;
    tally_intend(&r->h->handled, position);
    store_release(v.record->state, (state & ~0xffu) | DONE);
    FAULT(r, 7);
    tally_settle(&r->h->handled);
    FAULT(r, 8);
    return position != r->head || ring_advance(r);
}

/* Give the pages of an empty ring back. Only where producers use the lock: a lane of ring_put is never that large. (Its
   count of pages may be: they are counted in steps, which go beyond the end.) */
static inline void ring_trim(struct ring *r)
{
    struct header *h = r->h;
    if (r->capacity <= RING_TRIM || load(h->populated_end) - load(h->populated_base) <= RING_TRIM || ring_trylock(r))
        return;
    if (load(h->head) == load(h->tail)) {
        ring_forget_pages(h);
        madvise(r->data, r->capacity, MADV_REMOVE);
    }
    ring_unlock(r);
}

#endif
