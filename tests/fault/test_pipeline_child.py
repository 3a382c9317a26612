"""A pipeline in a tree, whose processes are killed while items flow: every item arrives, and what comes twice was in hand when
the pipeline's own process died.
"""

from __future__ import annotations

import collections
import random
import threading
from typing import Any

import pytest

from actors import ActorSystem, Mailbox
from actors.pipeline import Pipeline, Stage
from actors.supervision import Backoff, Supervisor
from kit import kill, until


def double(number: int) -> int:
    return 2 * number


def same(number: int) -> int:
    return number


def processes(info: dict[str, Any], found: list[tuple[str, int]]) -> list[tuple[str, int]]:
    for child in info["children"]:
        if child["pid"]:
            found.append((child["name"], child["pid"]))
        processes(child, found)
    return found


def flow(system: ActorSystem, rng: random.Random, count: int, kills: int, whom: str) -> None:
    jobs: Mailbox[int] = system.mailbox("jobs")
    out: Mailbox[int] = system.mailbox("out")
    pipeline = Pipeline(Stage(double, workers=2), same, name="etl")
    tree = system.start(
        Supervisor(
            pipeline.child(mailbox="jobs", to_mailbox="out", attempts=1000),
            name="tree", backoff=Backoff(0.0, 0.0), max_restarts=None,
        )
    )  # fmt: skip
    putting = threading.Thread(target=lambda: [jobs.put(number) for number in range(count)])
    putting.start()
    at = sorted(rng.sample(range(count), kills))
    got: list[int] = []
    missing = set(range(0, 2 * count, 2))
    while missing:
        item = out.get(timeout=60)
        got.append(item)
        missing.discard(item)
        if at and len(got) > at[0]:
            at.pop(0)
            found = [pid for name, pid in processes(system.tree(), []) if (name == "tree/etl") == (whom == "driver")]
            if found:
                kill(rng.choice(found))
    putting.join()
    twice = [item for item, times in collections.Counter(got).items() if times > 1]
    print(f"{len(twice)} of {count} items came again")
    if whom == "worker":
        assert got == list(range(0, 2 * count, 2)), "lost, doubled or out of order"
    jobs.close()
    until(lambda: jobs.qsize() == 0, "nothing waits")
    until(lambda: "etl" not in tree.children(), "it has ended by itself")


@pytest.mark.parametrize("kills", [6, pytest.param(100, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("whom", ["worker", "driver"])
def test_every_item_arrives_whoever_is_killed(
    kills: int, whom: str, system: ActorSystem, rng: random.Random, nothing_is_left: object
) -> None:
    flow(system, rng, 500 * kills, kills, whom)
