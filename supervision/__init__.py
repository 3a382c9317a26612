"""Who restarts whom, and when: OTP's supervision as pure functions and one state machine.

    spec        Child, Supervisor: what users write
    policy      the part of a specification that the tree reads
    strategy    who is restarted with a failed child
    intensity   how many restarts are too many
    backoff     how long to wait before the next
    tree        the state machine: events in, actions out
    actions     what the tree asks of its guardian
    judge       who is restarted, who has failed, who is forgotten
    settler     takes the nodes from what is to what shall be
    node        what is remembered of one of them
    timers      one alarm a node

Rule: no process, no clock and no I/O in here. Time and randomness are parameters, so that every behaviour can be tested
by table.
"""

if __name__ != "actors.supervision":  # from a checkout the bare name would load a second copy of every class
    raise ImportError("import this package as actors.supervision")

from .backoff import Backoff
from .intensity import Intensity
from .policy import AutoShutdown, Policy, Restart
from .spec import Child, OnError, Supervisor, checked_name, expand, name_of
from .strategy import Strategy

# The machine (tree, actions) is the guardian's alone: import it from its modules; every actor would pay for it here.

__all__ = [
    "AutoShutdown",
    "Backoff",
    "Child",
    "Intensity",
    "OnError",
    "Policy",
    "Restart",
    "Strategy",
    "Supervisor",
    "checked_name",
    "expand",
    "name_of",
]
