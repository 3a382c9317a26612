/* Many consumers of one ring: a mailbox that several processes share. Pure C; knows nothing of Python.

Rules
- Consumers take a lock of their own, which survives its owner's death as the producers' does; the two are never waited
  for together. Under it a record is claimed (its taker's endpoint is written, then STARTED), ended (DONE) or given back
  (NEW, one try more), and the head moves over what is over.
- A record keeps its place until it is over, so one that comes back is found where it was: before all later ones.
- The owner (the guardian) takes no lock: what a dead endpoint had in hand it makes NEW again by itself, and says so
  (`rewinds`); the next consumer that holds the lock looks from the head on. It can't disturb anybody: nobody but the
  dead could have changed a record that is in their hand, and the head never passes one.
- Counts survive a death at any instruction: an intent is written before the fact (struct tally), and whoever inherits
  the lock looks whether the fact came true.
- Nobody trusts the shared words, as in ring.h; a lost wake-up (a sleeper's death, a scribbled word) costs a slice of
  waiting, not a hang.

Waiting: a consumer that finds nothing says how it waits in `hungry`, fence, looks again, and sleeps in that futex, or
polls the bell in an event loop. A producer publishes, fence, takes the word and wakes one. Whoever was woken says
"hungry" again for the others, and wakes another when it leaves more than it took: one sleeper a record, and none
forgotten.

Rejected: claiming by compare-and-swap without a lock (taker and state are two words, and a death between them would
leave a record that is nobody's; a taker inside the state word costs the endpoint its bits). One lock for producers and
consumers (half the speed with four of each). A count of sleepers (wrong for ever when one is killed).

Atomics are paired by letters as in ring.h; (U) is the word `hungry`. */

#ifndef ACTORS_TAKERS_H
#define ACTORS_TAKERS_H

#include "ring.h"

enum { RING_EMPTY = -6, RING_LEFT = -7 };

#define TAKERS_FEW 16 /* a ring that may hold so many records at most tells producers of room at once */

/* --- counts */

/* Records that wait. */
static inline uint64_t takers_waiting(const struct ring *r)
{
    struct takers *t = &r->h->takers;
    uint64_t taken = load_acquire(t->taken.count);
    uint64_t back = load(t->given.count) + load(t->returned);
    int64_t count = (int64_t)(ring_accepted(r->h) + back - taken);
    return count < 0 ? 0 : (uint64_t)count;
}

/* Records put and neither handled nor said to be done. */
static inline uint64_t takers_unfinished(const struct ring *r)
{
    struct takers *t = &r->h->takers;
    uint64_t over = load_acquire(t->settled.count) + load(t->finished);
    int64_t count = (int64_t)(ring_accepted(r->h) - over);
    return count < 0 ? 0 : (uint64_t)count;
}

/* Move the head over what is over. False: corrupt. */
static inline bool takers_advance(struct ring *r)
{
    struct takers *t = &r->h->takers;
    struct view each;
    uint64_t head = load(r->h->head), tail = load_acquire(r->h->tail), first = head;
    while (head != tail) {
        if (!ring_view(r, head, tail, &each))
            return false;
        if (ring_state(each.record) < DONE)
            break;
        head += each.size;
    }
    if (head != first) {
        if (load(t->cursor) - first < head - first) /* after a mend it starts at the head */
            store(t->cursor, head);
        store_release(r->h->head, head); /* (H) */
    }
    return true;
}

/* --- the consumers' lock */

/* An intent of a dead owner of the lock: `true` if it has changed the record. It is over either way. */
static inline void takers_decide(struct tally *t, bool came_true)
{
    if (came_true)
        tally_settle(t);
    else
        store(t->next, load(t->count));
}

static inline bool takers_intended(const struct ring *r, const struct tally *t, struct view *v)
{
    uint64_t at = load(t->at), head = load(r->h->head), tail = load_acquire(r->h->tail);
    return load(t->next) == load(t->count) + 1 && at - head < tail - head && ring_view(r, at, tail, v);
}

static inline void takers_mend(struct ring *r)
{
    struct takers *t = &r->h->takers;
    struct view v;
    uint64_t before = load(t->before);
    tally_mend(r, &r->h->handled, DONE);
    tally_mend(r, &t->settled, DONE);
    store(t->settled.next, load(t->settled.count)); /* over either way: it may come back, and end with a task_done to follow */
    if (takers_intended(r, &t->taken, &v)) /* the owner may have made it NEW since, with one try more */
        takers_decide(&t->taken, load(v.record->state) != before);
    if (takers_intended(r, &t->given, &v)) /* the owner leaves no taker */
        takers_decide(&t->given, load(v.record->state) != before && load(v.record->taker) != 0);
    store(t->cursor, load(r->h->head));
    takers_advance(r); /* corrupt: the next look says so */
    store(r->h->space_wait, 0);
    ring_futex(&r->h->space_wait, FUTEX_WAKE, INT_MAX, NULL);
}

static inline int takers_inherit(struct ring *r, int rc)
{
    if (rc != EOWNERDEAD)
        return rc;
    struct takers *t = &r->h->takers;
    pthread_mutex_consistent(&t->lock);
    takers_mend(r);
    store(t->recovered, load(t->recovered) + 1);
    return 0;
}

static inline int takers_trylock(struct ring *r)
{
    return takers_inherit(r, pthread_mutex_trylock(&r->h->takers.lock));
}

static inline int takers_lock_until(struct ring *r, uint64_t until)
{
    struct timespec t = {(time_t)(until / 1000000000u), (long)(until % 1000000000u)};
    return takers_inherit(r, pthread_mutex_clocklock(&r->h->takers.lock, CLOCK_MONOTONIC, &t));
}

static inline void takers_unlock(struct ring *r)
{
    pthread_mutex_unlock(&r->h->takers.lock);
}

/* If its owner is dead, inherit and let go: the counts are exact again. */
static inline void takers_refresh(struct ring *r)
{
    if (takers_trylock(r) == 0)
        takers_unlock(r);
}

static inline uint32_t takers_owner(const struct ring *r)
{
    return (uint32_t)__atomic_load_n(&r->h->takers.lock.__data.__lock, __ATOMIC_SEQ_CST) & FUTEX_TID_MASK;
}

/* --- room for producers */

/* As many records wait as may: 1, 0, or RING_CORRUPT. With the producers' lock. */
static inline int takers_full(struct ring *r)
{
    if (!r->most || takers_waiting(r) < r->most)
        return 0;
    takers_refresh(r);
    /* Emptiness before the count: no producer is here, so what is empty stays empty, while consumers can take and end
       what was counted. */
    bool nothing = load_acquire(r->h->head) == load(r->h->tail);
    FAULT(r, 23);
    uint64_t waiting = takers_waiting(r);
    if (waiting > r->capacity / sizeof(struct record) || (nothing && waiting))
        return RING_CORRUPT;
    return waiting >= r->most;
}

/* Sleep until there may be room or `nanoseconds` have passed. (W) */
static inline void takers_await_room(struct ring *r, uint64_t need, uint64_t limit, uint64_t nanoseconds)
{
    struct header *h = r->h;
    struct timespec t = {0, (long)nanoseconds};
    takers_refresh(r); /* a dead consumer's lock keeps the head where it is, and there may be no other consumer */
    store(h->space_wait, 1);
    fence();
    bool full = load(h->tail) - load(h->head) > limit - need || (r->most && takers_waiting(r) >= r->most);
    if (full && !load(h->closed) && load(r->me))
        ring_futex(&h->space_wait, FUTEX_WAIT, 1, &t);
}

static inline void takers_wake_senders(struct ring *r)
{
    struct header *h = r->h;
    fence(); /* (W) */
    if (!load(h->space_wait))
        return;
    bool roomy = load(h->tail) - load(h->head) <= r->capacity / 2;
    if (r->most && (r->most <= TAKERS_FEW || takers_waiting(r) <= r->most / 2))
        roomy = true;
    if (roomy) {
        store(h->space_wait, 0);
        ring_futex(&h->space_wait, FUTEX_WAKE, INT_MAX, NULL);
    }
}

/* --- hunger */

/* Is there something to take? A hint: the lock says for sure. */
static inline bool takers_ready(const struct ring *r)
{
    const struct takers *t = &r->h->takers;
    return load(t->cursor) != load_acquire(r->h->tail) || load_acquire(t->rewinds) != load(t->seen);
}

/* (U) after a publication or a return, or whatever else consumers wait for. */
static inline void takers_wake(struct ring *r, int most)
{
    struct takers *t = &r->h->takers;
    fence();
    if (!load(t->hungry))
        return;
    uint32_t who = atomic_exchange(&t->hungry, FED);
    FAULT(r, 22);
    if (who & SLEEPS)
        ring_futex(&t->hungry, FUTEX_WAKE, (uint32_t)most, NULL);
    if (who & POLLS)
        ring_strike(r);
}

/* (U) Sleep until there may be something, or `nanoseconds` have passed. `closed`: what that word was at the last look. */
static inline void takers_sleep(struct ring *r, uint64_t closed, uint64_t nanoseconds)
{
    struct takers *t = &r->h->takers;
    struct timespec slice = {0, (long)nanoseconds};
    uint32_t word = atomic_fetch_or(&t->hungry, SLEEPS) | SLEEPS;
    fence();
    bool over = load(r->h->closed) && load(r->h->head) == load(r->h->tail);
    if (!takers_ready(r) && load(r->h->closed) == closed && !over && load(r->me))
        ring_futex(&t->hungry, FUTEX_WAIT, word, &slice);
    atomic_fetch_or(&t->hungry, SLEEPS); /* for the others */
}

static inline void takers_wake_joiners(struct ring *r)
{
    struct takers *t = &r->h->takers;
    fence();
    if (load(t->joining) && takers_unfinished(r) == 0) {
        store(t->joining, 0);
        ring_futex(&t->joining, FUTEX_WAKE, INT_MAX, NULL);
    }
}

static inline void takers_await_joined(struct ring *r, uint64_t nanoseconds)
{
    struct takers *t = &r->h->takers;
    struct timespec slice = {0, (long)nanoseconds};
    store(t->joining, 1);
    fence();
    if (takers_unfinished(r) && load(r->me))
        ring_futex(&t->joining, FUTEX_WAIT, 1, &slice);
}

/* Wake everybody who waits for anything here. */
static inline void takers_rouse(struct ring *r)
{
    struct takers *t = &r->h->takers;
    store(r->h->space_wait, 0);
    ring_futex(&r->h->space_wait, FUTEX_WAKE, INT_MAX, NULL);
    store(t->joining, 0);
    ring_futex(&t->joining, FUTEX_WAKE, INT_MAX, NULL);
    uint32_t who = atomic_exchange(&t->hungry, FED);
    ring_futex(&t->hungry, FUTEX_WAKE, INT_MAX, NULL); /* also those whose waker died between word and wake */
    if ((who & POLLS) || takers_ready(r) || load(r->h->closed))
        ring_strike(r);
}

/* --- consumers, with their lock held */

/* The next record that nobody has in hand: 1 found, 0 none, RING_CORRUPT. */
static inline int takers_find(struct ring *r, struct view *v)
{
    struct takers *t = &r->h->takers;
    uint64_t head = load(r->h->head), tail = load_acquire(r->h->tail); /* (T) */
    uint64_t rewinds = load_acquire(t->rewinds);
    if (rewinds != load(t->seen)) { /* the cursor first: a death in between costs a second look */
        store(t->cursor, head);
        store_release(t->seen, rewinds);
    }
    uint64_t position = load(t->cursor);
    if (tail - head > r->capacity || position - head > tail - head)
        return RING_CORRUPT;
    while (position != tail) {
        if (!ring_view(r, position, tail, v))
            return RING_CORRUPT;
        if (ring_state(v->record) == NEW) {
            store(t->cursor, position);
            return 1;
        }
        position += v->size;
    }
    store(t->cursor, position);
    return 0;
}

/* Take the record in hand. */
static inline void takers_claim(struct ring *r, const struct view *v)
{
    struct takers *t = &r->h->takers;
    uint32_t state = load(v->record->state);
    store(t->before, state);
    tally_intend(&t->taken, v->position);
    store(v->record->taker, load(r->me));
    store(v->record->since, ring_now(CLOCK_MONOTONIC_COARSE));
    FAULT(r, 11);
    store_release(v->record->state, state | STARTED);
    FAULT(r, 12);
    tally_settle(&t->taken);
    store(t->cursor, v->position + v->size);
    FAULT(r, 13);
}

/* Closed, no producer that saw it open can still publish, and nothing is left that could come back from others. */
static inline bool takers_over(const struct ring *r)
{
    struct view v;
    if (!load(r->h->closed))
        return false;
    fence(); /* (C) */
    if (ring_owner(r) != 0)
        return false;
    uint64_t head = load(r->h->head), tail = load_acquire(r->h->tail);
    if (load(r->h->takers.cursor) != tail || load_acquire(r->h->takers.rewinds) != load(r->h->takers.seen))
        return false;
    for (uint64_t position = head; position != tail; position += v.size) {
        if (!ring_view(r, position, tail, &v))
            return true; /* corrupt behind us: nothing will come of it */
        if (ring_state(v.record) == STARTED && load(v.record->taker) != load(r->me))
            return false;
    }
    return true;
}

/* The record there, if it is in this process's hand: 1, 0 (it is not), RING_CORRUPT. */
static inline int takers_held(const struct ring *r, uint64_t position, struct view *v)
{
    uint64_t head = load(r->h->head), tail = load_acquire(r->h->tail);
    if (!load(r->me) || position - head >= tail - head)
        return 0;
    if (tail - head > r->capacity || !ring_view(r, position, tail, v))
        return RING_CORRUPT;
    return ring_state(v->record) == STARTED && load(v->record->taker) == load(r->me);
}

/* The record in hand is over. `settles`: no task_done will follow. False: corrupt. */
static inline bool takers_end(struct ring *r, const struct view *v, bool settles)
{
    struct takers *t = &r->h->takers;
    tally_intend(&r->h->handled, v->position);
    if (settles)
        tally_intend(&t->settled, v->position);
    FAULT(r, 15);
    store_release(v->record->state, (load(v->record->state) & ~0xffu) | DONE);
    FAULT(r, 16);
    tally_settle(&r->h->handled);
    if (settles)
        tally_settle(&t->settled);
    FAULT(r, 17);
    bool good = takers_advance(r);
    FAULT(r, 18);
    return good;
}

/* The record in hand waits again, as the next one to be taken. */
static inline void takers_give_back(struct ring *r, const struct view *v)
{
    struct takers *t = &r->h->takers;
    uint32_t state = load(v->record->state), tries = state >> 8;
    store(t->before, state);
    tally_intend(&t->given, v->position);
    FAULT(r, 19);
    store_release(v->record->state, (tries < 0xffffff ? tries + 1 : tries) << 8 | NEW);
    FAULT(r, 20);
    tally_settle(&t->given);
    if ((int64_t)(v->position - load(t->cursor)) < 0)
        store(t->cursor, v->position);
    FAULT(r, 21);
}

/* --- the owner, without any lock */

/* What this dead (or departed) endpoint had in hand waits again. How many, or RING_CORRUPT. */
static inline int64_t takers_reclaim(struct ring *r, uint64_t endpoint)
{
    struct takers *t = &r->h->takers;
    struct view v;
    int64_t count = 0;
    uint64_t head = load_acquire(r->h->head), tail = load_acquire(r->h->tail), position = head;
    while (position != tail) {
        bool whole = position - head <= tail - head && ring_view(r, position, tail, &v);
        uint32_t state = whole ? load_acquire(v.record->state) : 0;
        bool its = whole && (state & 0xff) == STARTED && load(v.record->taker) == endpoint;
        fence();
        head = load(r->h->head);
        if ((int64_t)(head - position) > 0) { /* it is over, and what was read here is not it */
            if ((int64_t)(tail - head) <= 0)
                break;
            position = head;
            continue;
        }
        if (!whole)
            return RING_CORRUPT;
        if (its) {
            uint32_t tries = state >> 8;
            store(t->returned, load(t->returned) + 1);
            store(v.record->taker, 0);
            store_release(v.record->state, (tries < 0xffffff ? tries + 1 : tries) << 8 | NEW);
            count++;
        }
        position += v.size;
    }
    if (count)
        store_release(t->rewinds, load(t->rewinds) + 1);
    return count;
}

#endif
