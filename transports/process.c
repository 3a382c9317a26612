/* Processes: sibling(), prctl() and stamp(), which the standard library does not have.

sibling() is fork() whose parent is the caller's parent (clone3 with CLONE_PARENT): a zygote makes actors that belong to
the guardian at once, without a middle process to wait for. It is for single-threaded callers.

Rule: glibc's fork handlers do not run (PyOS_BeforeFork and the two PyOS_AfterFork do), so a zygote makes one throw-away
os.fork() after its imports: libraries that stop their threads in such a handler (OpenBLAS) have then done so. What
glibc's fork would have done for the child and matters here is done by hand: its thread id (written by the kernel at the
address that glibc registered) and its robust list, without which it could not die while holding a ring's lock.

Rejected: double fork (a middle process and a wait, 0.5 to 2.5 ms more with large imports). */

#include "binding.h"

#include <linux/sched.h>
#include <sys/prctl.h>

static PyObject *process_sibling(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    int *tid = NULL;
    void *robust = NULL;
    size_t size = 0;
    if (prctl(PR_GET_TID_ADDRESS, &tid, 0, 0, 0) || syscall(SYS_get_robust_list, 0, &robust, &size))
        return PyErr_SetFromErrno(PyExc_OSError);
    if (!tid || *tid != (int)syscall(SYS_gettid)) {
        errno = ENOTSUP; /* not glibc's way to know its thread: the child would take itself for its parent */
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    struct clone_args how = {
        .flags = CLONE_PARENT | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID,
        .child_tid = (uint64_t)(uintptr_t)tid,
        .exit_signal = 0, /* with CLONE_PARENT it is the caller's own, and must be 0 here */
    };
    PyOS_BeforeFork();
    long pid = syscall(SYS_clone3, &how, sizeof how);
    if (pid == 0) {
        syscall(SYS_set_robust_list, robust, size);
        PyOS_AfterFork_Child();
        return PyLong_FromLong(0);
    }
    int failed = errno;
    PyOS_AfterFork_Parent();
    errno = failed;
    return pid < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromLong(pid);
}

/* prctl(option, argument=0): the result; for the two options that answer through a pointer, that answer. */
static PyObject *process_prctl(PyObject *Py_UNUSED(module), PyObject *args)
{
    int option, answer = 0;
    unsigned long argument = 0;
    if (!PyArg_ParseTuple(args, "i|k:prctl", &option, &argument))
        return NULL;
    bool asks = option == PR_GET_PDEATHSIG || option == PR_GET_CHILD_SUBREAPER;
    int said = asks ? prctl(option, &answer, 0, 0, 0) : prctl(option, argument, 0, 0, 0);
    if (said < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    return PyLong_FromLong(asks ? answer : said);
}

/* --- the end of what a signal's handler writes */

static void (*stamped)(int);
static int stamp_fd = -1;

static void handle_and_stamp(int signum)
{
    int saved = errno;
    stamped(signum);
    if (write(stamp_fd, "", 1) < 0)
        errno = 0; /* nobody reads there any more */
    errno = saved;
}

/* stamp(signum, fd): faulthandler's dumps have no end that a reader could see. */
static PyObject *process_stamp(PyObject *Py_UNUSED(module), PyObject *args)
{
    int signum, fd;
    struct sigaction action;
    if (!PyArg_ParseTuple(args, "ii:stamp", &signum, &fd))
        return NULL;
    if (sigaction(signum, NULL, &action))
        return PyErr_SetFromErrno(PyExc_OSError);
    if ((action.sa_flags & SA_SIGINFO) || action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN)
        return PyErr_Format(PyExc_ValueError, "signal %d has no handler to follow", signum);
    stamp_fd = fd;
    if (action.sa_handler != handle_and_stamp) {
        stamped = action.sa_handler;
        action.sa_handler = handle_and_stamp;
    }
    if (sigaction(signum, &action, NULL))
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

PyMethodDef process_methods[] = {
    {"sibling", process_sibling, METH_NOARGS, NULL},
    {"prctl", process_prctl, METH_VARARGS, NULL},
    {"stamp", process_stamp, METH_VARARGS, NULL},
    {0},
};
