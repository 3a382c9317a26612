"""The guardian: a small process of its own that owns the tree, the names and the mailboxes' descriptors, and runs
nobody's code.

    main       entry, the warden, the event loop, what happens at a death
    registry   actors by uid and by name; what is remembered of the dead
    peers      the connected processes and their lanes
    mailroom   mailboxes: in hand, swept, answered, dead letters, large bodies
    nursery    births: zygote, candidates, attempts
    coordination  locks, semaphores, barriers, events: pages and waiting coroutines
    desk       what connected processes ask for
    deaths     what the kernel reports, and what follows
    orphans    what actors started and left behind
    oom        who was killed for memory
    vitals     who hangs, who has grown too large (pulse: the judgement)
    stacks     what a live process does
    watch      monitors, waits, links, events

Rule: it reads fixed headers and never a message's body, imports nothing of the user's, never blocks and never takes a
senders' lock. The supervision tree decides (`actors.supervision.tree`, pure); this package carries out.
"""
