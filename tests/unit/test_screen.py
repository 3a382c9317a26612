"""What `actors tree` and `actors top` draw from a system's data."""

from __future__ import annotations

import os
from typing import Any

from actors.screen import Sample, busiest, drawn, flat


def node(name: str, *children: dict[str, Any], kind: str = "worker", uid: int = 1, handled: int = 0) -> dict[str, Any]:
    pid = os.getpid() if kind == "worker" else None
    return {
        "name": name, "uid": uid, "kind": kind, "pid": pid, "status": "running", "restarts": 2, "handled": handled,
        "mailbox": {"depth": 1234, "bytes": 5678}, "busy_since": None, "children": list(children),
    }  # fmt: skip


def root(*children: dict[str, Any]) -> dict[str, Any]:
    return {"system": "demo", "pid": 1, "children": list(children)}


def test_the_tree_is_drawn_with_last_names_under_their_parents() -> None:
    """One line a node, siblings joined, numbers with their thousands apart."""
    etl = node("etl", node("etl/reader", uid=2), node("etl/store", uid=3), kind="supervisor")
    lines = drawn(root(etl, node("other", uid=4))).splitlines()
    drawings = [line.split("running")[0].rstrip() for line in lines[2:]]
    assert drawings == ["├─ etl", "│  ├─ reader", "│  └─ store", "└─ other"]
    assert lines[3].split()[-4:] == [str(os.getpid()), "2", "1,234", "0"]


def test_the_columns_of_the_tree_stand_under_their_heads() -> None:
    """Text starts, numbers end, at one column in every line."""
    lines = drawn(root(node("a"), node("a-long-name", uid=2))).splitlines()
    assert len({line.index("running") for line in lines[2:]}) == 1
    assert {len(line) for line in lines[2:]} == {len(lines[0])}


def test_the_busiest_actor_comes_first_with_its_rates() -> None:
    """Between two samples: processor share, messages a second."""
    a, b = node("a", uid=1, handled=10), node("b", uid=2, handled=110)
    a["pid"], b["pid"] = 101, 102
    before = Sample(0.0, root({**a}, {**b, "handled": 10}), {101: (1.0, 0), 102: (1.0, 0)})
    now = Sample(2.0, root(a, b), {101: (1.1, 2_000_000), 102: (2.0, 1_000_000)})
    _, _, first, second = busiest(now, before).splitlines()
    assert first.split()[:6] == ["b", "running", "102", "50.0", "1.0", "50"]
    assert second.split()[:6] == ["a", "running", "101", "5.0", "2.0", "0"]


def test_supervisors_and_dead_processes_do_not_disturb() -> None:
    """No line for a supervisor; a process that is gone since is shown without load."""
    gone = node("gone", uid=7)
    gone["pid"] = 2**22 + 1
    sample = Sample.of(root(node("etl", gone, kind="supervisor")))
    assert [info["name"] for info in flat(sample.root)] == ["etl", "gone"]
    assert busiest(sample, None).splitlines()[2].split()[:5] == ["gone", "running", str(gone["pid"]), "0.0", "0.0"]
