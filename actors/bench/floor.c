/* The floor: what a round trip between two processes costs in C, without Python, messages or safety.
 *
 *   spin: both spin on one cache line each of shared memory; nobody sleeps, a core each.
 *   pipe: a byte through a pipe and one back; both sleep, so this is two of the kernel's wake-ups.
 *
 * Usage: floor spin|pipe; prints the median of a round trip in seconds. A spinning side gives the core away after a
 * while, so that one core is slow and not a standstill.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 20000 };

struct lines {
    _Alignas(128) _Atomic unsigned ping;
    _Alignas(128) _Atomic unsigned pong;
};

static void await(_Atomic unsigned *word, unsigned value) {
    for (unsigned turns = 0; atomic_load_explicit(word, memory_order_acquire) != value; turns++)
        if ((turns & 0xfff) == 0xfff)
            sched_yield();
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int child(void) {
    int pid = fork();
    if (pid == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    return pid;
}

int main(int argc, char **argv) {
    static double times[ROUNDS];
    int there[2], back[2];
    char byte = 0;
    int spin = argc > 1 && strcmp(argv[1], "spin") == 0;
    struct lines *lines = mmap(NULL, sizeof *lines, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (lines == MAP_FAILED || pipe(there) || pipe(back))
        return 1;
    int pid = child();
    if (pid == 0)
        for (unsigned i = 1;; i++) {
            if (spin) {
                await(&lines->ping, i);
                atomic_store_explicit(&lines->pong, i, memory_order_release);
            } else if (read(there[0], &byte, 1) != 1 || write(back[1], &byte, 1) != 1)
                _exit(0);
        }
    for (unsigned i = 1; i <= ROUNDS; i++) {
        double start = now();
        if (spin) {
            atomic_store_explicit(&lines->ping, i, memory_order_release);
            await(&lines->pong, i);
        } else if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
            return 1;
        times[i - 1] = now() - start;
    }
    kill(pid, SIGKILL);
    qsort(times, ROUNDS, sizeof *times, ascending);
    printf("%.12f\n", times[ROUNDS / 2]);
    return 0;
}
