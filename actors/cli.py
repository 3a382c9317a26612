"""The command `actors`: run a tree, look at a running system, act on it, measure.

Rule: each command is a small function from parsed arguments to an exit code, written on the public surface alone. Exit
codes are the truth: 0 all went well, 1 something failed (said on stderr), 2 the command line is wrong, 70 actors of
`run` have failed, 128 + n ended by signal n. `run` itself is service.py's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from . import init, screen, service
from .application import load
from .errors import ActorDied, ActorNotFound, ActorsError, SpecError
from .system import ActorSystem

POSITIONAL = {
    "tree": "app.toml, or module:tree",
    "system": "the system's name",
    "actor": "the actor's name, as `actors tree` shows it from the top: etl/reader",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, act, and return the exit code."""
    options = parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of our output has left (`actors tree demo | head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except ActorsError as error:
        print(f"actors: {error}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(prog="actors", description="Supervised actors, each in an OS process of its own.")
    commands = whole.add_subparsers(required=True, metavar="command")

    def add(command: Callable[[argparse.Namespace], int], text: str, *positional: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(command.__name__, help=text, description=f"{text[0].upper()}{text[1:]}.")
        sub.set_defaults(command=command)
        for argument in positional:
            sub.add_argument(argument, help=POSITIONAL[argument])
        return sub

    running = add(run, "start a supervised tree and stay until all of it has ended or a signal comes", "tree")
    running.add_argument("--name", help="the system's name (default: the tree's)")
    running.add_argument(
        "--grace",
        type=float,
        default=service.GRACE,
        metavar="SECONDS",
        help="after SIGTERM, Ctrl-C or a hangup: time to handle what was accepted, before the shutdown times apply "
        "(default: %(default)g, for managers that kill after 30)",
    )
    drawing = add(tree, "print the tree of a running system", "system")
    drawing.add_argument("--json", action="store_true", help="as data, with every field")
    watching = add(top, "watch the actors of a running system, the busiest first", "system")
    watching.add_argument("--interval", type=float, default=1.0, metavar="SECONDS")
    watching.add_argument("--count", type=int, default=0, metavar="N", help="end after so many screens")
    add(stop, "stop an actor for good; it handles what it has accepted first", "system", "actor")
    showing = add(stacks, "print what every thread of the actors does at this moment", "system")
    showing.add_argument("actor", nargs="?", help="one actor's name (default: all of them)")
    add(restart, "replace an actor's process; its mail stays", "system", "actor")
    measuring = add(bench, "measure actors, multiprocessing and other frameworks side by side on this machine")
    measuring.add_argument("--rounds", type=int, default=5, metavar="N")
    measuring.add_argument(
        "--only", nargs="+", default=[], metavar="CASE", help="figures or cases: ask, tell, 'spawn.*'"
    )
    measuring.add_argument("--json", type=Path, metavar="FILE", help="write the samples there, too")
    return whole


# --- run


def run(options: argparse.Namespace) -> int:
    grace = service.check_grace(options.grace)
    init.settle()  # before anything of the user's runs
    spec = load(options.tree)
    return service.run(spec, options.name or spec.name, grace)


# --- look and act


def tree(options: argparse.Namespace) -> int:
    with ActorSystem.attach(options.system) as system:
        root = system.tree()
    print(json.dumps(root, indent=2) if options.json else screen.drawn(root))
    return 0


def top(options: argparse.Namespace) -> int:
    clear = "\033[2J\033[H" if sys.stdout.isatty() else ""  # on a terminal each screen replaces the one before
    before: screen.Sample | None = None
    with ActorSystem.attach(options.system) as system:
        for number in itertools.count(1):
            now = screen.Sample.of(system.tree())
            print(f"{clear}{screen.busiest(now, before)}", flush=True)
            if number == options.count:
                return 0
            before = now
            time.sleep(options.interval)
    return 0


def stop(options: argparse.Namespace) -> int:
    with ActorSystem.attach(options.system) as system:
        actor = system.lookup(options.actor)
        actor.stop()
        print(f"{actor.address} {actor.wait()}")
    return 0


def restart(options: argparse.Namespace) -> int:
    with ActorSystem.attach(options.system) as system, closing(system.events()) as events:
        actor = system.lookup(options.actor)
        actor.restart()
        end = next(event for event in events if event.ref == actor and event.kind in ("restarted", "failed", "stopped"))
        print(f"{actor.address} {end.kind}")
    return 0 if end.kind == "restarted" else 1


def stacks(options: argparse.Namespace) -> int:
    with ActorSystem.attach(options.system) as system:
        known = [info for info in screen.flat(system.tree()) if info["kind"] == "worker"]
        names = [options.actor] if options.actor else [info["name"] for info in known]
        with ThreadPoolExecutor(max(1, len(names))) as pool:  # one that does not answer must not delay the others
            for text in pool.map(lambda name: shown(system, name, bool(options.actor)), names):
                print(text, end="")
    return 0


def shown(system: ActorSystem, name: str, alone: bool) -> str:
    """An actor's stacks under its address; of one of many that has just ended nothing."""
    try:
        actor = system.lookup(name)
        return f"{actor.address} (pid {actor.info()['pid']})\n{actor.stacks()}\n\n"
    except (ActorNotFound, ActorDied):
        if alone:
            raise
        return ""


# --- measure


def bench(options: argparse.Namespace) -> int:
    from .bench import runner, table
    from .bench.figures import OURS

    if options.rounds < 1:
        raise SpecError(f"--rounds {options.rounds}: at least one round is needed")
    try:
        cases = runner.select(options.only)
    except ValueError as error:
        raise SpecError(str(error)) from error
    results = runner.run(cases, options.rounds, progress)
    progress("")
    print(table.render(results))
    if options.json:
        options.json.write_text(json.dumps(table.as_data(results), indent=2) + "\n")
    return 1 if any(case.module == OURS and case.name in results.missing for case in cases) else 0


def progress(text: str) -> None:
    """What is measured now: one line that replaces itself on a terminal, nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
