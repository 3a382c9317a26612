"""A process writes over memory that it shares with the guardian: it harms itself, and no other actor."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from pathlib import Path

import pytest

from actors import Actor, ActorDied, ActorSystem, MailboxCorrupt, SystemDied
from actors.transports._ring import HEADER
from kit import Gate, Journal, until

HEAD, TAIL, CAPACITY = 64, 128, 1 << 20  # places in a ring's header; bytes of a mailbox
NONSENSE = 0xDEAD_BEEF_1234_5671


def scribble(memory: str, what: str) -> None:
    """Over this process's only memory of that name."""
    (base,) = (
        int(words[0].split("-")[0], 16)
        for words in map(str.split, Path("/proc/self/maps").read_text().splitlines())
        if words[5:6] == [f"/memfd:actors:{memory}"] and int(words[2], 16) == 0
    )
    head = ctypes.c_uint64.from_address(base + HEAD).value % CAPACITY
    at = {"head": HEAD, "tail": TAIL, "record": HEADER + head}[what]
    ctypes.c_uint64.from_address(base + at).value = NONSENSE


class Wild(Actor):
    """Writes where it should not, as a broken C library in its process would."""

    def pid(self) -> int:
        return os.getpid()

    def scribble(self, memory: str, what: str, gate: Gate | None, journal: Journal | None) -> None:
        if gate is not None:
            gate.wait()
        scribble(memory, what)
        if journal is None:
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            journal.write("scribbled")
            signal.pause()


class Good(Actor):
    def twice(self, number: int) -> int:
        return 2 * number


@pytest.mark.parametrize("what", ["head", "tail", "record"])
def test_an_actor_that_has_written_over_its_mailbox_ends_alone_and_who_asked_it_is_told(
    system: ActorSystem, tmp_path: Path, what: str
) -> None:
    good, wild, gate = system.spawn(Good), system.spawn(Wild), Gate(tmp_path / "gate")
    wild.tell(Wild.scribble, "mailbox", what, gate, None)
    lost = wild.ask(Wild.pid)  # there is nobody who could find it afterwards
    gate.open()
    until(lambda: [each["name"] for each in system.tree()["children"]] == [good.name], "it is not started again")
    for each in lost, wild.ask(Wild.pid):
        with pytest.raises(ActorDied) as raised:
            each.result(20)
        assert not isinstance(raised.value, SystemDied)
    assert good.ask(Good.twice, 4).result(20) == 8


def test_an_actor_that_nothing_can_be_said_to_any_more_dies_alone(system: ActorSystem, journal: Journal) -> None:
    good, wild = system.spawn(Good), system.spawn(Wild)
    pid = wild.ask(Wild.pid).result(20)
    wild.tell(Wild.scribble, "control", "tail", None, journal)
    journal.until("scribbled")
    wild.stop()  # which the guardian can't say to it
    until(lambda: not Path(f"/proc/{pid}").exists(), "it is dead and reaped")
    assert good.ask(Good.twice, 4).result(20) == 8


def test_a_sender_that_finds_a_mailbox_damaged_is_told_so(system: ActorSystem) -> None:
    wild, good = system.spawn(Wild), system.spawn(Good)
    pid = wild.ask(Wild.pid).result(20)
    numbers = system.topic("numbers")
    for ref in (wild, good):
        numbers.subscribe(ref, "twice")
    scribble("mailbox", "tail")
    with pytest.raises(MailboxCorrupt, match=wild.name):
        wild.ask(Wild.pid)
    with pytest.raises(MailboxCorrupt, match=wild.name):
        wild.tell(Wild.pid)
    with pytest.raises(MailboxCorrupt, match=wild.name):
        asyncio.run(wild.tell_async(Wild.pid))
    good.ask(Good.twice, 1).result(20)  # its mailbox is known here now, as the damaged one is
    assert numbers.publish(3) == 1, "the others hear"
    assert asyncio.run(numbers.publish_async(3)) == 1
    os.kill(pid, signal.SIGKILL)
    until(lambda: [each["name"] for each in system.tree()["children"]] == [good.name], "it is not started again")
    assert good.ask(Good.twice, 4).result(20) == 8
