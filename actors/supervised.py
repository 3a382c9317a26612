"""A running supervision tree, as the program holds it."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from .errors import ActorNotFound, SpecError
from .exits import ExitReason
from .options import actor_options
from .ref import ActorRef
from .steps import drive
from .supervision.spec import Child, Supervisor, expand

if TYPE_CHECKING:
    from .client import Client
    from .spawning import Spawning

Node = tuple[
    dict[str, Any], Any, tuple[Any, ...]
]  # what the guardian is told, factory (None: a supervisor), its arguments


def flatten(tree: Supervisor | Child[Any]) -> list[Node]:
    """The nodes of a tree, parents before their children, in start order."""
    nodes: list[Node] = []
    _flatten(tree, -1, nodes)
    return nodes


def _flatten(spec: Supervisor | Child[Any], under: int, nodes: list[Node]) -> None:
    node: dict[str, Any] = {"name": spec.name, "under": under, "policy": spec.policy.to_wire()}
    if isinstance(spec, Child):
        options = actor_options(spec.on_error, spec.redeliver, spec.mailbox, spec.limits)
        nodes.append(({**node, "kind": "worker", "options": options}, spec.factory, spec.args))
        return
    mine = len(nodes)
    nodes.append(({**node, "kind": "supervisor", "strategy": spec.strategy}, None, ()))
    for child in spec.children:
        _flatten(child, mine, nodes)


def _all_below(infos: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for info in infos:
        yield info
        yield from _all_below(info["children"])


class Supervised:
    """A running supervisor: its children by name, and what can be done with them."""

    def __init__(self, client: Client, name: str, uid: int, system: Spawning) -> None:
        self._client, self.name, self.uid, self._system = client, name, uid, system

    def __repr__(self) -> str:
        return f"<Supervised {self._client.address(self.name)}>"

    def children(self) -> dict[str, ActorRef[Any] | Supervised]:
        """Its present children by name, in start order: references, and nested supervisors as objects like this one."""
        return drive(self._children_steps())

    def _children_steps(self) -> Generator[Any, Any, dict[str, ActorRef[Any] | Supervised]]:
        known = yield from self._known_steps()
        return {self._short(info): self._as_object(info) for info in known}

    def __getitem__(self, name: str) -> Any:
        """A child by name; or what is further down, by its path from here ("stores/store") or the end of it ("store")
        where it is the only one. ActorNotFound, naming those that there are.
        """
        below = {self._short(info): info for info in _all_below(drive(self._known_steps()))}
        matches = [name] if name in below else [path for path in below if path.endswith(f"/{name}")]
        if len(matches) == 1:
            return self._as_object(below[matches[0]])
        if matches:
            raise ActorNotFound(f"{self.name!r} has more than one {name!r}; say which: {', '.join(matches)}")
        raise ActorNotFound(f"{self.name!r} has no child {name!r}; it has: {', '.join(below) or 'none'}")

    def _known_steps(self) -> Generator[Any, Any, list[dict[str, Any]]]:
        known: list[dict[str, Any]] = (yield self._client.request("tree", uid=self.uid))["children"]
        return known

    def _short(self, info: dict[str, Any]) -> str:
        name: str = info["name"]
        return name.removeprefix(f"{self.name}/")

    def _as_object(self, info: dict[str, Any]) -> ActorRef[Any] | Supervised:
        if info["kind"] == "supervisor":
            return Supervised(self._client, info["name"], info["uid"], self._system)
        return ActorRef(self._client.system, info["name"], info["uid"])

    def restart(self, name: str) -> None:
        """Replace a child's process by hand (named as for `[]`); not counted as a crash."""
        self._client.exchange("restart", uid=self[name].uid)

    def stop(self, name: str | None = None) -> None:
        """Stop a child for good (None: the whole tree, children in reverse order)."""
        self._client.send("stop", uid=self.uid if name is None else self[name].uid)

    def remove(self, name: str) -> None:
        """Stop a child for good, also one that has FAILED, and return when it is gone and its name free again. What is
        still in the mailbox of a FAILED one becomes dead letters.
        """
        child = self[name]
        self._client.send("stop", uid=child.uid)
        child.wait()

    def resume(self, name: str | None = None) -> None:
        """Start a FAILED child again (None: this supervisor), with its mail."""
        self._client.exchange("resume", uid=self.uid if name is None else self[name].uid)

    def add(self, child: Child[Any] | Supervisor) -> ActorRef[Any] | Supervised:
        """Start one more child, after the others; returns when it is ready. SpawnError; SpecError: it is several, or
        significant where this supervisor's `auto_shutdown` is "never".
        """
        if not isinstance(child, Child | Supervisor):
            raise SpecError(f"add takes a Child or a Supervisor, not {child!r}; wrap a class in Child(...)")
        if isinstance(child, Child) and child.count > 1:
            raise SpecError(f"{child!r}: add takes one child at a time; give each a name and add it by itself")
        if not child.named:
            (child,) = expand((child,), self.children())
        answer = drive(self._system._request_steps(self.uid, flatten(child)))
        if isinstance(child, Child):
            return ActorRef(self._client.system, answer["name"], answer["uid"])
        return Supervised(self._client, answer["name"], answer["uid"], self._system)

    def wait(self, timeout: float | None = None) -> ExitReason:
        """Block until the whole tree has ended (or FAILED): why. AskTimeout: not within `timeout` seconds."""
        reply = self._client.request("wait", about=self._client.address(self.name), uid=self.uid)
        try:
            return ExitReason.from_wire(reply.result(timeout))
        finally:
            reply.cancel()

    async def wait_async(self) -> ExitReason:
        """`wait` for coroutines."""
        about = self._client.address(self.name)
        return ExitReason.from_wire(await self._client.request("wait", about=about, uid=self.uid))
