"""From a TOML file or a name to a tree: the fields arrive, the order is kept, and every mistake is named."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.application import load
from actors.errors import SpecError
from actors.mailbox import MailboxOptions
from actors.supervision import Child, Supervisor

WORKERS = """
from actors import Actor
from actors.supervision import Child, Supervisor

class Reader(Actor): ...

class Store(Actor):
    def __init__(self, path: str) -> None: ...

tree = Supervisor(Child(Reader), name="made")
def make(): return tree
broken = 5
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module of factories, the current directory; the module is forgotten again."""
    (tmp_path / "app_workers.py").write_text(WORKERS)
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    sys.modules.pop("app_workers", None)


def from_toml(folder: Path, text: str) -> Supervisor:
    (folder / "app.toml").write_text(text.replace("workers:", "app_workers:"))
    return load(str(folder / "app.toml"))


def names(supervisor: Supervisor) -> list[object]:
    return [
        [child.name, *names(child)] if isinstance(child, Supervisor) else child.name for child in supervisor.children
    ]


def test_every_field_arrives_with_its_meaning(folder: Path) -> None:
    """A table is the call that it stands for."""
    tree = from_toml(
        folder,
        """
        name = "etl"
        strategy = "rest_for_one"
        max_restarts = 5
        within = 30.0
        backoff = { initial = 0.5, maximum = 2.0 }
        [[child]]
        factory = "workers:Store"
        args = ["out.db"]
        name = "store"
        restart = "transient"
        shutdown = 10.0
        redeliver = 2
        mailbox = { capacity = 65536, overflow = "drop" }
        """,
    )
    [store] = tree.children
    assert (tree.name, tree.strategy, tree.policy.max_restarts, tree.policy.within) == ("etl", "rest_for_one", 5, 30.0)
    assert tree.policy.backoff and tree.policy.backoff.initial == 0.5
    assert isinstance(store, Child)
    assert (store.name, store.args, store.policy.restart, store.policy.shutdown) == (
        "store",
        ("out.db",),
        "transient",
        10.0,
    )
    assert (store.redeliver, store.mailbox) == (2, MailboxOptions(capacity=65536, overflow="drop"))
    assert store.factory.__name__ == "Store"


def test_children_keep_the_files_order_and_supervisors_nest(folder: Path) -> None:
    """Whichever of `child` and `supervisor` comes first in the file starts first."""
    tree = from_toml(
        folder,
        """
        [[supervisor]]
        name = "stores"
        [[supervisor.child]]
        factory = "workers:Reader"
        count = 2
        [[child]]
        factory = "workers:Reader"
        name = "one"
        [[child]]
        factory = "workers:Reader"
        name = "two"
        """,
    )
    assert names(tree) == [["stores", "reader/1", "reader/2"], "one", "two"]


def test_a_tree_without_a_name_is_called_like_its_file(folder: Path) -> None:
    """app.toml is `app`."""
    assert from_toml(folder, "").name == "app"


def test_the_tree_may_have_a_table_of_its_own(folder: Path) -> None:
    """Beside tables of other tools."""
    tree = from_toml(folder, '[tree]\nname = "etl"\n[[tree.child]]\nfactory = "workers:Reader"\n[tool.other]\nx = 1')
    assert (tree.name, names(tree)) == ("etl", ["reader"])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[[child]]\nname = "r"', r"child 'r': field 'factory' is missing"),
        ('[[child]]\nfactory = "reader"', r"child 'reader': factory: 'reader' does not say \"module:name\""),
        (
            '[[child]]\nfactory = "workers:Raeder"\nname = "r"',
            r"child 'r': factory 'app_workers:Raeder'.*no attribute 'Raeder'",
        ),
        (
            '[[child]]\nfactory = "no_such_module:R"\nname = "r"',
            r"child 'r': factory .*can't be imported: No module named",
        ),
        (
            '[[child]]\nfactory = "workers:Reader"\nname = "r"\nrestrat = "permanent"',
            r"child 'r': unknown field 'restrat'; did you mean 'restart'",
        ),
        ('[[child]]\nfactory = "workers:Reader"\nname = "r"\nrestart = "often"', r"child 'r': restart must be one of"),
        ('[[child]]\nfactory = "workers:Reader"\nname = "r"\nargs = "x"', r"child 'r': args must be a list, not 'x'"),
        (
            '[[child]]\nfactory = "workers:Reader"\nname = "r"\nbackoff = { initail = 1 }',
            r"child 'r': backoff: unknown field 'initail'; did you mean 'initial'",
        ),
        (
            '[[child]]\nfactory = "workers:Reader"\nname = "r"\nmailbox = { capacity = -1 }',
            r"child 'r': mailbox: .*capacity",
        ),
        ('[[child]]\nfactory = "workers:Reader"\nname = "r/ /"', r"child 'r/ /': name must be"),
        ('strategy = "one_for_most"', r"supervisor 'app': strategy must be one of"),
        ("chlid = []", r"supervisor 'app': unknown field 'chlid'; did you mean 'child'"),
        ('child = "x"', r"supervisor 'app': child must be an array of tables"),
        ('[[supervisor]]\nname = "s"\nwithin = 0', r"supervisor 's': within must be"),
        (
            '[[child]]\nfactory = "workers:Reader"\nname = "r"\nrestart = "temporary"\nsignificant = true',
            r"supervisor 'app': child 'r': significant must be False where the supervisor's auto_shutdown",
        ),
        ('auto_shutdown = "always"', r"supervisor 'app': auto_shutdown must be one of"),
        ("name = ", r"Invalid value"),
    ],
)
def test_a_mistake_is_named_with_file_child_and_field(folder: Path, text: str, complaint: str) -> None:
    """SpecError, before anything was started."""
    with pytest.raises(SpecError, match=rf"app\.toml: .*{complaint}"):
        from_toml(folder, text)


def test_a_missing_file_is_named(folder: Path) -> None:
    """The path and the reason."""
    with pytest.raises(SpecError, match=r"nowhere\.toml: .*No such file"):
        load("nowhere.toml")


@pytest.mark.parametrize("target", ["app_workers:tree", "app_workers:make"])
def test_a_module_gives_a_supervisor_or_a_function_that_makes_one(folder: Path, target: str) -> None:
    """module:tree, the module looked for in the current directory."""
    assert load(target).name == "made"


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("app_workers:broken", "app_workers:broken is of type int; actors run needs a Supervisor"),
        ("app_workers:nothing", "no attribute 'nothing'"),
        ("app_workers", 'does not say "module:name"'),
    ],
)
def test_a_name_that_is_no_tree_is_refused(folder: Path, target: str, complaint: str) -> None:
    """With what it is instead."""
    with pytest.raises(SpecError, match=complaint):
        load(target)
