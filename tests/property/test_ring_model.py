"""A ring behaves like a list of records, whatever its senders, its consumers and its owner do one after the other."""

import os
from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, precondition, rule

from actors.transports import _ring
from actors.transports._ring import CLOSED, FULL, RECORD, Record, Ring

CAPACITY = 4096


@dataclass(eq=False)
class Sent:
    """What the model knows of one record."""

    position: int
    sender: int
    number: int
    body: bytes
    tries: int = 0
    state: str = "new"  # new, started, over

    @property
    def size(self) -> int:
        return (RECORD + len(self.body) + 7) // 8 * 8

    def same(self, record: Record) -> bool:
        fields: Any = (1, 0, self.sender, self.number, self.number, self.tries, self.position, self.body)
        return bool(record == fields)


class RingMachine(RuleBasedStateMachine):
    """The model: records in order; the front of those that are over makes room."""

    sent = Bundle("sent")
    taken = Bundle("taken")

    def __init__(self) -> None:
        super().__init__()
        fd = _ring.create(CAPACITY)
        self.ring, self.others = Ring(fd), Ring(fd)
        os.close(fd)
        self.queue: list[Sent] = []
        self.number = self.attempt = self.reader = 0
        self.closed = False
        self.accepted = self.over = 0

    # --- senders

    @rule(target=sent, sender=st.integers(0, 2), body=st.binary(max_size=1200), other=st.booleans())
    def push(self, sender: int, body: bytes, other: bool) -> Any:
        self.number += 1
        ring = self.others if other else self.ring
        position = ring.push(body, 1, 0, sender, self.number, self.number, 0)
        record = Sent(position, sender, self.number, body)
        if self.closed:
            assert position == CLOSED
            return multiple()
        if sum(each.size for each in self.queue) + record.size > CAPACITY:
            assert position == FULL
            return multiple()
        assert position >= 0
        self.queue.append(record)
        self.accepted += 1
        return record

    @rule(record=sent)
    def cancel(self, record: Sent) -> None:
        dropped = self.others.cancel(record.position, record.sender, record.number)
        assert dropped == ((record.body, 0) if record.state == "new" else None)
        if record.state == "new":
            self.end(record)
            # the consumer makes the room when it passes by

    # --- the consumer

    @rule(target=taken)
    def take(self) -> Any:
        record = self.ring.take()
        expected = next((each for each in self.queue[self.reader :] if each.state == "new"), None)
        if expected is None:
            assert record is None
            self.reader = len(self.queue)
            self.make_room()
            return multiple()
        assert record is not None
        assert expected.same(record)
        expected.state = "started"
        self.reader = self.queue.index(expected)
        self.make_room()
        self.reader = self.queue.index(expected) + 1
        return expected

    @rule(record=consumes(taken))
    def done(self, record: Sent) -> None:
        in_hand = record.state == "started"
        front = bool(self.queue) and self.queue[0] is record
        self.ring.done(record.position)
        if in_hand:
            self.end(record)
            if front:
                self.make_room()

    # --- the owner

    @rule(tries=st.integers(0, 3))
    def consumer_dies(self, tries: int) -> None:
        told = self.others.in_hand(tries)
        started = [each for each in self.queue if each.state == "started"]
        given_up = [each for each in started if each.tries >= tries]
        assert len(told) == len(given_up)
        assert all(each.same(record) for each, record in zip(given_up, told, strict=True))
        for each in started:
            if each in given_up:
                self.end(each)
            else:
                each.state, each.tries = "new", each.tries + 1
        self.attempt += 1
        self.others.grant(self.attempt)
        self.reader = len(self.queue)
        self.make_room()
        self.reader = 0
        assert self.ring.claim(self.attempt)

    @rule()
    def close(self) -> None:
        self.others.close()
        self.closed = True
        assert self.others.quiet()

    @precondition(lambda self: self.closed)
    @rule()
    def sweep_and_reopen(self) -> None:
        told = self.ring.sweep()
        left = [each for each in self.queue if each.state != "over"]
        assert all(each.same(record) for each, record in zip(left, told, strict=True))
        for each in left:
            self.end(each)
        self.queue.clear()
        self.reader = 0
        self.others.reopen()
        self.closed = False

    # --- the model's own

    def end(self, record: Sent) -> None:
        record.state = "over"
        self.over += 1

    def make_room(self) -> None:
        """The head passes what is over, up to the reading position."""
        while self.reader and self.queue and self.queue[0].state == "over":
            self.queue.pop(0)
            self.reader -= 1

    @invariant()
    def the_counts_are_those_of_the_model(self) -> None:
        stats = self.others.stats()
        assert stats["accepted"] == self.accepted
        assert stats["handled"] == self.over
        assert stats["tail"] - stats["head"] == sum(each.size for each in self.queue)
        assert (stats["busy_since"] != 0) == any(each.state == "started" for each in self.queue)


RingMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestRing = RingMachine.TestCase
