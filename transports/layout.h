/* What lies in a ring's shared memory: one page of header, then the data, a sequence of records.

Rule: words written by different parties lie on different cache lines, and the offsets are a contract between processes
that may come from different builds (after an upgrade a guardian still runs the old one): whoever moves a word changes
RING_VERSION.

Positions are absolute byte offsets that never wrap; a record is 8-aligned and, the data being mapped twice in a row,
never split.

Rejected: 32-bit positions (a busy ring wraps them within minutes, and a stale one would look right again). */

#ifndef ACTORS_LAYOUT_H
#define ACTORS_LAYOUT_H

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define RING_MAGIC UINT64_C(0x676e69722d746361) /* "act-ring" */
#define RING_VERSION 2u
#define RING_HEADER 4096
#define RING_MINIMUM UINT64_C(4096)
#define RING_MAXIMUM (UINT64_C(1) << 31) /* a record's length is 32 bits */

enum state { NEW, STARTED, DONE, CANCELLED };

/* Of the consumer. RUNG: a producer took it upon itself to strike the bell; the consumer itself goes back to AWAKE. If
   the producer dies before the stroke the word still says that something is owed. */
enum sleep { AWAKE, ASLEEP, RUNG };

/* A count that survives its writer's death between the fact (a tail published, a state set) and the count. The intent
   (where, then the next value) is written first; who finds a writer dead looks whether the fact at `at` came true, and
   settles the count. One writer at a time. */
struct tally {
    _Atomic uint64_t count, next, at;
};

/* The consumers' side of a ring that several of them share (takers.h). */
struct takers {
    /* written by consumers, under their lock */
    alignas(64) pthread_mutex_t lock;
    _Atomic uint64_t cursor; /* no record before it is NEW, except those that `rewinds` tells of */
    _Atomic uint64_t seen;   /* `rewinds`, when the cursor was last set back */
    alignas(64) struct tally taken; /* records ever taken in hand */
    struct tally given;             /* and given back by their taker */
    _Atomic uint64_t before;        /* the state of the record at `taken.at` (or `given.at`) before its change */
    alignas(64) struct tally settled; /* records taken in hand and handled, which needs no task_done */
    _Atomic uint64_t finished;        /* calls of task_done */
    _Atomic uint64_t recovered;       /* deaths of lock owners */
    /* written by the owner */
    alignas(64) _Atomic uint64_t rewinds; /* something before the cursor may be NEW again */
    _Atomic uint64_t returned;            /* records that it gave back for dead consumers */
    alignas(64) _Atomic uint32_t hungry;  /* futex, enum hunger */
    alignas(64) _Atomic uint32_t joining; /* futex; 1: somebody waits until all is finished */
};

/* How consumers wait for a record: in the futex, or for the bell, in an event loop. */
enum hunger { FED, SLEEPS = 1, POLLS = 2 };

struct header {
    _Atomic uint64_t magic; /* stored last by ring_format */
    uint32_t version;
    uint64_t capacity;
    /* written by the consumer (after its death: the owner) */
    alignas(64) _Atomic uint64_t head; /* (H) released when records before it may be overwritten */
    _Atomic uint64_t busy_since;       /* CLOCK_MONOTONIC ns at which the oldest record in hand was taken, 0: idle */
    struct tally handled;
    _Atomic uint64_t local_since; /* CLOCK_MONOTONIC ns at which the oldest call that no record asked for began, 0: none */
    /* written by producers, under the lock */
    alignas(64) _Atomic uint64_t tail; /* (T) released when records before it are whole */
    struct tally accepted;
    _Atomic uint64_t populated_base, populated_end; /* pages of these positions are present */
    _Atomic uint32_t last_cpu;                      /* on which the last producer ran */
    alignas(64) _Atomic uint32_t sleeping;          /* (S) enum sleep */
    alignas(64) _Atomic uint32_t space_wait;        /* (W) futex; 1: producers sleep until there is room */
    alignas(64) pthread_mutex_t lock;
    _Atomic uint64_t recovered; /* deaths of lock owners */
    alignas(64) struct tally cancelled;
    /* rarely written */
    alignas(64) _Atomic uint64_t closed; /* (C) non-zero: producers are refused */
    _Atomic uint64_t epoch;              /* attempt << 1 | claimed */
    _Atomic uint32_t pid;                /* of the consumer */
    alignas(64) _Atomic uint64_t waiting;
    alignas(1024) struct takers takers;
};

enum { RECORD_ELSEWHERE = 4 }; /* flag: the body is the number of what the guardian keeps; all other flags are opaque here */

struct record {
    _Atomic uint32_t length; /* of the body */
    _Atomic uint32_t state;  /* enum state | tries << 8, one word so that both change at once */
    uint16_t kind, flags;
    uint32_t mark; /* of its own position: a corrupt length leads to a place without one */
    uint64_t sender, corr;
    union {
        uint64_t deadline;
        _Atomic uint64_t taker; /* where consumers share the ring: whose hand it is in (or was) */
    };
    _Atomic uint64_t since; /* CLOCK_MONOTONIC ns at which it was taken in hand */
};

_Static_assert(sizeof(struct record) == 48 && offsetof(struct header, head) == 64 &&
                   offsetof(struct header, tail) == 128 && offsetof(struct header, sleeping) == 192 &&
                   offsetof(struct header, space_wait) == 256 && offsetof(struct header, lock) == 320 &&
                   offsetof(struct header, cancelled) == 384 && offsetof(struct header, closed) == 448 &&
                   offsetof(struct header, takers) == 1024 && sizeof(struct takers) == 384 &&
                   sizeof(struct header) <= RING_HEADER,
               "the layout is shared by processes of different builds: change RING_VERSION with it");

#endif
