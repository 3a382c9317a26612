/* When a reader spins before it sleeps.

Rule: never when the last sender ran on this CPU (it can't send while we spin), and rarely while spins did not pay
lately (a moving rate; 8, 16 ... 256 waits are then left out before the next try).

Rejected: fixed spinning (3 to 10 times worse than none when cores are short); sched_yield (ruinous beside busy
processes). */

#ifndef ACTORS_SPIN_H
#define ACTORS_SPIN_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

struct spinner {
    uint32_t rate, skip, probe; /* of the spins that paid (of 256); waits to leave out; how many the next time */
};

#define SPIN_ANY UINT32_MAX
#define SPINNER ((struct spinner){128, 0, 8})

/* Does a spin have a chance? `cpu`: on which the last sender ran; SPIN_ANY: not known. */
static inline bool spin_promises(struct spinner *s, uint32_t cpu)
{
    if (cpu == (uint32_t)sched_getcpu())
        return false;
    if (s->skip == 0)
        return true;
    s->skip--;
    return false;
}

static inline void spin_learn(struct spinner *s, bool paid)
{
    s->rate = paid ? s->rate + ((256 - s->rate) >> 3) : s->rate - (s->rate >> 3);
    if (s->rate >= 64) {
        s->probe = 8;
    } else if (paid) { /* a try out of the dark: believe it */
        s->rate = 100;
        s->probe = 8;
    } else {
        s->rate = 60;
        s->skip = s->probe;
        s->probe = s->probe < 256 ? s->probe * 2 : 256;
    }
}

#endif
