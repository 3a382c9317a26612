/* What several processes coordinate by: one word in a page of shared memory, and a slot a process. Pure C; knows nothing
of Python.

Rules
- One 64-bit word says everything: how many permits are free (or have arrived), who changed it last, and the number of
  that change, which only grows. Every change is one compare-and-swap; there is no lock to hold, so nobody who is stopped
  or killed between two instructions can hold up anybody else.
- What a process holds stands in its own slot, which only it writes (under its GIL). It writes down what it is about to
  do (`intent`), swaps the word, then settles its `account`. Whoever swaps next first writes into the slot of the one
  before that its change came true (`done`). So the guardian knows of a dead process exactly what it held, wherever it
  died: a recoverable compare-and-swap (Attiya, Ben-Baruch, Hendler, PODC 2018).
- Who has to wait says so in the word (CONTENDED) and sleeps on its low half, which every change alters. A release that
  finds sleepers keeps what it gives back for them (RESERVED): the kernel wakes in order of arrival, so nobody starves.
  Whoever has slept through a slice of time may take as well: a waiter that was woken and then stopped delays others, no
  more.
- Nobody trusts the shared words: a slot's number is taken modulo SLOTS, and counts are kept within their bits.

Rejected
- A robust mutex around a queue of waiters: one that is stopped inside holds up all, and the guardian must take no lock.
- Letting whoever comes first take the lock (as sem_t does): more handovers a second, but of eight that contend one or
  two get all of them.
- A semaphore as n words with a holder each: as simple a repair, but a search for each acquire, and none for n in
  thousands.

The word, from bit 0: slot (12 bits), flags (4), count (1 bit in a lock and an event, else 16), number (the rest). */

#ifndef ACTORS_SYNC_H
#define ACTORS_SYNC_H

#include "ring.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the kernel compares the low half of the word, which must come first"
#endif

#define SYNC_MAGIC UINT64_C(0x636e79732d746361) /* "act-sync" */
#define SYNC_VERSION 1u
#define SYNC_SLOTS 4096
#define SYNC_SLICE UINT64_C(100000000) /* ns of one sleep: bounds what a stopped waiter can cost others */

enum sync_kind { SYNC_LOCK = 1, SYNC_SEMAPHORE, SYNC_BARRIER, SYNC_EVENT };

#define SYNC_SLOT UINT64_C(0xfff)
#define CONTENDED (UINT64_C(1) << 12) /* somebody sleeps */
#define RESERVED (UINT64_C(1) << 13)  /* permits: what is free is for those who slept */
#define ABANDONED (UINT64_C(1) << 14) /* permits: the last holder died */
#define PHASE_SHIFT 14                /* barrier: enum phase, two bits */
#define ONE (UINT64_C(1) << 16)       /* of the count */

enum phase { FILLING, DRAINING, RESETTING, BROKEN };

struct sync_slot {
    alignas(64) _Atomic uint64_t account; /* number of its last change that is settled, what it held then (32 bits each) */
    _Atomic uint64_t intent;              /* the same of the change that it is about to make */
    _Atomic uint64_t done;                /* number of a change of its own that came true, by whoever changed after it */
    _Atomic uint32_t owner;               /* endpoint of the process; by the guardian */
    _Atomic uint32_t abandoned;           /* what it took last had been left by a death */
};

struct sync_page {
    _Atomic uint64_t magic;
    uint32_t version, kind, limit, bounded;
    alignas(64) _Atomic uint64_t word;
    alignas(64) _Atomic uint32_t doorman; /* coroutines that wait for the guardian's word; by the guardian */
    _Atomic uint32_t turn;                /* a hint: whether coroutines or sleepers come next */
    struct sync_slot slots[SYNC_SLOTS];
};

_Static_assert(sizeof(struct sync_slot) == 64 && offsetof(struct sync_page, word) == 64 &&
                   offsetof(struct sync_page, doorman) == 128 && offsetof(struct sync_page, slots) == 192,
               "the layout is shared by processes of different builds: change SYNC_VERSION with it");

#define SYNC_SIZE ((sizeof(struct sync_page) + 4095) & ~UINT64_C(4095))

/* One process's view. */
struct sync {
    struct sync_page *p;
    struct sync_slot *mine;
    uint32_t slot;
    int shift; /* of the number */
    int fault; /* RING_FAULTS builds */
};

static inline int sync_shift(uint32_t kind)
{
    return kind == SYNC_LOCK || kind == SYNC_EVENT ? 17 : 32;
}

static inline uint64_t sync_word(const struct sync *s)
{
    return atomic_load(&s->p->word);
}

static inline uint64_t sync_most(const struct sync *s)
{
    return (UINT64_C(1) << (s->shift - 16)) - 1;
}

static inline uint64_t sync_count(const struct sync *s, uint64_t w)
{
    return (w >> 16) & sync_most(s);
}

static inline uint32_t sync_held(const struct sync *s)
{
    return (uint32_t)load(s->mine->account);
}

static inline uint64_t sync_note(uint64_t number, uint32_t held)
{
    return number << 32 | held;
}

/* Tell the one who made `seen` that it did, before it is overwritten. */
static inline void sync_help(struct sync *s, uint64_t seen)
{
    uint32_t slot = seen & SYNC_SLOT;
    if (slot == s->slot)
        return;
    struct sync_slot *other = &s->p->slots[slot];
    uint64_t done = atomic_load(&other->done), number = (uint32_t)(seen >> s->shift);
    if (done != number && sync_word(s) == seen) /* still `seen`: so `done` is of an earlier change, and may go forward */
        atomic_compare_exchange_strong(&other->done, &done, number);
}

/* Swap `seen` for these flags and this count (all below the number, but for the slot), after which this process holds
   `held`. False: the word has changed. Never with the GIL released: the slot has one writer at a time. */
static inline bool sync_change(struct sync *s, uint64_t seen, uint64_t fields, uint32_t held)
{
    uint64_t number = (seen >> s->shift) + 1;
    uint64_t w = number << s->shift | (fields & ((UINT64_C(1) << s->shift) - 1) & ~SYNC_SLOT) | s->slot;
    store_release(s->mine->intent, sync_note(number, held));
    FAULT(s, 1);
    sync_help(s, seen);
    FAULT(s, 2);
    if (!atomic_compare_exchange_strong(&s->p->word, &seen, w))
        return false;
    FAULT(s, 3);
    store_release(s->mine->account, sync_note(number, held));
    FAULT(s, 4);
    return true;
}

/* Flags only: the last change stays the last. */
static inline bool sync_flag(struct sync *s, uint64_t seen, uint64_t flags)
{
    return atomic_compare_exchange_strong(&s->p->word, &seen, flags);
}

/* What the dead owner of a slot held. */
static inline uint32_t sync_legacy(const struct sync *s, uint32_t slot)
{
    const struct sync_slot *dead = &s->p->slots[slot];
    uint64_t w = sync_word(s); /* before `done`: whoever changes the word from now on has written that */
    uint64_t account = atomic_load(&dead->account), intent = atomic_load(&dead->intent);
    uint32_t number = (uint32_t)(intent >> 32);
    bool in_doubt = number != (uint32_t)(account >> 32);
    bool came_true = ((w & SYNC_SLOT) == slot && (uint32_t)(w >> s->shift) == number) || atomic_load(&dead->done) == number;
    return (uint32_t)(in_doubt && came_true ? intent : account);
}

/* --- sleeping */

static inline _Atomic uint32_t *sync_futex(const struct sync *s)
{
    return (_Atomic uint32_t *)&s->p->word;
}

/* How many were woken. */
static inline uint32_t sync_wake(const struct sync *s, uint32_t most)
{
    long woken = ring_futex(sync_futex(s), FUTEX_WAKE, most < INT_MAX ? most : INT_MAX, NULL);
    return woken > 0 ? (uint32_t)woken : 0;
}

/* Sleep while the word is what it was when seen. 0: woken, ETIMEDOUT, EINTR, EAGAIN: it has changed. */
static inline int sync_sleep(struct sync *s, uint64_t seen, uint64_t ns)
{
    uint64_t w = seen | CONTENDED;
    if (w != seen && !sync_flag(s, seen, w))
        return EAGAIN;
    FAULT(s, 5);
    struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    int said = ring_futex(sync_futex(s), FUTEX_WAIT, (uint32_t)w, &t) ? errno : 0;
    FAULT(s, 6);
    return said;
}

/* --- permits: locks and semaphores */

/* One permit, if there is one for us. *seen: the word that it was decided by. */
static inline bool sync_take(struct sync *s, bool waited, uint64_t *seen)
{
    for (;;) {
        uint64_t w = *seen = sync_word(s), count = sync_count(s, w);
        if (!count || (w & RESERVED && !waited))
            return false;
        uint64_t fields = (w & ~ABANDONED) - ONE;
        if (count == 1)
            fields &= ~RESERVED;
        if (waited)
            fields |= CONTENDED; /* others may sleep, as we did */
        if (sync_change(s, w, fields, sync_held(s) + 1)) {
            store(s->mine->abandoned, (w & ABANDONED) != 0);
            return true;
        }
    }
}

/* What is free is for everybody; those who went to sleep over the reservation look again. */
static inline void sync_unreserve(struct sync *s)
{
    for (;;) {
        uint64_t w = sync_word(s);
        if (!(w & RESERVED))
            return;
        if (sync_flag(s, w, w & ~RESERVED)) {
            if (w & CONTENDED)
                sync_wake(s, (uint32_t)sync_count(s, w) + 1);
            return;
        }
    }
}

/* Wake for so many permits that have become free. How many found nobody. */
static inline uint32_t sync_offer(struct sync *s, uint32_t permits)
{
    uint32_t woken = sync_wake(s, permits);
    return woken < permits ? permits - woken : 0;
}

/* Give `permits` back; what is left for coroutines to be told (by the guardian): that many. -1: there would be more than
   `most`, and nothing has changed. It is looked at in each turn: somebody else may give back at the same time. */
static inline int64_t sync_give(struct sync *s, uint32_t permits, uint64_t most)
{
    for (;;) {
        uint64_t w = sync_word(s);
        if (sync_count(s, w) + permits > most)
            return -1;
        uint64_t fields = (w & ~CONTENDED) + permits * ONE;
        bool wanted = w & (CONTENDED | RESERVED) || load(s->p->doorman);
        uint32_t held = sync_held(s);
        if (!sync_change(s, w, wanted ? fields | RESERVED : fields, held > permits ? held - permits : 0))
            continue;
        FAULT(s, 7);
        bool told = atomic_load(&s->p->doorman);
        if (!wanted && !told)
            return 0;
        if (told && atomic_fetch_xor(&s->p->turn, 1))
            return permits;
        uint32_t left = sync_offer(s, permits);
        if (left && !told)
            sync_unreserve(s);
        return told ? left : 0;
    }
}

/* --- the guardian, whose slot is 0 */

static inline uint64_t sync_barrier_after(uint64_t w, uint64_t left)
{
    enum phase phase = (enum phase)(w >> PHASE_SHIFT & 3);
    if (phase == FILLING)
        phase = BROKEN;
    else if (phase != BROKEN && !left)
        phase = FILLING;
    return (uint64_t)phase << PHASE_SHIFT | left * ONE;
}

/* Undo what the dead owner of a slot held, and have everybody look again. How much that was. */
static inline uint32_t sync_sweep(struct sync *s, uint32_t slot)
{
    uint32_t held = sync_legacy(s, slot);
    bool permits = s->p->kind == SYNC_LOCK || s->p->kind == SYNC_SEMAPHORE;
    for (;;) {
        uint64_t w = sync_word(s), count = sync_count(s, w), most = sync_most(s);
        uint64_t fields = w & ~(CONTENDED | (permits ? RESERVED : 0));
        if (held && permits)
            fields = (fields & ~(most * ONE)) | ABANDONED | (count + held < most ? count + held : most) * ONE;
        else if (held && s->p->kind == SYNC_BARRIER)
            fields = sync_barrier_after(w, count > held ? count - held : 0);
        if (held ? sync_change(s, w, fields, 0) : sync_flag(s, w, fields))
            break;
    }
    struct sync_slot *dead = &s->p->slots[slot];
    store(dead->owner, 0);
    store_release(dead->account, 0);
    store_release(dead->intent, 0);
    sync_wake(s, INT_MAX);
    return held;
}

#endif
