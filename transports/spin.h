/* When a reader spins before it sleeps, and for how long.

Rule: never when the last sender ran on this CPU (it can't send while we spin), and rarely while spins did not pay
lately (a moving rate; 8, 16 ... 256 waits are then left out before the next try). What paid is remembered apart for
waits after we woke the one we sent to, and after we found it awake: who waits for an answer and has had to wake the
answerer waits for as long as waking takes, which no short spin outlasts.

Two that talk in turns could so get stuck asleep: each waits for the other's waking, whose spin never pays. A try out of
the dark is therefore as long as a wake-up (LONG_SPIN). The other then finds us awake, spins for our next message, and
has it: from there on short spins pay on both sides.

Rejected: fixed spinning (3 to 10 times worse than none when cores are short); sched_yield (ruinous beside busy
processes). */

#ifndef ACTORS_SPIN_H
#define ACTORS_SPIN_H

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct spinner {
    _Atomic uint32_t rate, skip, probe; /* of the spins that paid (of 256); waits to leave out; how many the next time */
};

/* One process's habits. Any thread may write them: they are hints. */
struct spinners {
    struct spinner woke, awake; /* after a send that had to wake its reader; after one that found it awake */
};

#define SPIN_ANY UINT32_MAX
#define SPINNER ((struct spinner){128, 0, 8})
#define SPINNERS ((struct spinners){SPINNER, SPINNER})
#define LONG_SPIN UINT64_C(150000) /* ns: to wake a process on an idle CPU took 50 to 90 us on virtual machines, twice that for both */
#define SPIN_LIT 64     /* a rate below it is the dark */

#define spin_load(word) atomic_load_explicit(&(word), memory_order_relaxed)
#define spin_store(word, value) atomic_store_explicit(&(word), (value), memory_order_relaxed)

/* Does a spin have a chance? `cpu`: on which the last sender ran; SPIN_ANY: not known. */
static inline bool spin_promises(struct spinner *s, uint32_t cpu)
{
    if (cpu == (uint32_t)sched_getcpu())
        return false;
    uint32_t skip = spin_load(s->skip);
    if (skip == 0)
        return true;
    spin_store(s->skip, skip - 1); /* of the one that was looked at: another thread's may be the last one */
    return false;
}

/* How long to spin, in ns, where `brief` is meant. */
static inline uint64_t spin_length(const struct spinner *s, uint64_t brief)
{
    return spin_load(s->rate) < SPIN_LIT && brief < LONG_SPIN ? LONG_SPIN : brief;
}

static inline void spin_learn(struct spinner *s, bool paid)
{
    uint32_t rate = spin_load(s->rate), probe = spin_load(s->probe);
    rate = paid ? rate + ((256 - rate) >> 3) : rate - (rate >> 3);
    if (rate >= SPIN_LIT) {
        probe = 8;
    } else if (paid) { /* a try out of the dark: believe it */
        rate = 100;
        probe = 8;
    } else {
        rate = 60;
        spin_store(s->skip, probe);
        probe = probe < 256 ? probe * 2 : 256;
    }
    spin_store(s->rate, rate);
    spin_store(s->probe, probe);
}

/* After a spin by this habit. In the dark after waking the reader, the wake-up that a long spin outlasted says nothing of
   the next one; after finding it awake, it shows that we are being talked with, and gives the other habit a new try, should
   one of us fall asleep. */
static inline void spin_learn_habit(struct spinners *s, struct spinner *habit, bool came, bool soon)
{
    spin_learn(habit, came && (soon || habit == &s->awake));
    if (came && habit == &s->awake)
        spin_store(s->woke.skip, 0);
}

#endif
