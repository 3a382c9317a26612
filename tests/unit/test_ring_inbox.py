"""An inbox puts answers where their askers look, hands mail out one by one, and is armed when it has nothing."""

import gc
import os
import select
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from actors.transports import _ring
from actors.transports._ring import Inbox, News, ReplyBase, Ring


class Reply(ReplyBase):
    __slots__ = ("__weakref__", "box")

    box: object


def make(bell: int, capacity: int = 1 << 16) -> Ring:
    fd = _ring.create(capacity)
    try:
        return Ring(fd, bell)
    finally:
        os.close(fd)


@dataclass
class Side:
    """One process's receiving side, and what its collect() fills."""

    bell: int
    table: dict[int, ReplyBase] = field(default_factory=dict)
    fire: list[ReplyBase] = field(default_factory=list)
    news: list[News] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.replies, self.control, self.mail = (make(self.bell) for _ in range(3))
        self.inbox = Inbox(self.bell, self.replies, self.control, self.mail)

    def collect(self, spin: float = 0, mine: ReplyBase | None = None, clear: bool = False) -> int:
        return self.inbox.collect(self.table, self.fire, self.news, spin, mine, clear)

    def ask(self, corr: int) -> Reply:
        reply = self.table[corr] = Reply()
        return reply

    def send(self, body: bytes = b"", corr: int = 0) -> int:
        return self.mail.push(body, 1, 0, 7, corr, 0, 0)

    def take(self) -> bytes:
        record = self.inbox.next(0)
        assert isinstance(record, tuple)
        return record[7]

    def is_rung(self) -> bool:
        return bool(select.select([self.bell], [], [], 0)[0])


Eventfd = Callable[[], int]


@pytest.fixture
def eventfd() -> Iterator[Eventfd]:
    """Makes eventfds that end with the test."""
    made: list[int] = []

    def make() -> int:
        made.append(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        return made[-1]

    yield make
    for fd in made:
        os.close(fd)


@pytest.fixture
def bell(eventfd: Eventfd) -> int:
    return eventfd()


@pytest.fixture
def side(bell: int) -> Side:
    return Side(bell)


# --- collect


def test_an_answer_fills_its_reply_and_leaves_the_table(side: Side) -> None:
    reply, other = side.ask(2**63), side.ask(5)
    assert (reply.kind, reply.body, reply.cbs, reply.waitfd) == (-1, None, None, -1)
    side.replies.answer(b"yes", 3, 2, 2**64 - 1, 2**63)
    assert side.collect() == 1
    assert (reply.kind, reply.flags, reply.sender, reply.body) == (3, 2, 2**64 - 1, b"yes")
    assert side.table == {5: other}
    assert (side.fire, side.news) == ([], [])


def test_a_late_answer_is_dropped(side: Side) -> None:
    side.replies.answer(b"", 1, 0, 0, 77)
    side.replies.answer(b"", 1, 0, 0, 0)
    assert side.collect() == 2
    assert (side.news, side.fire, side.table) == ([], [], {})
    stats = side.replies.stats()
    assert stats["accepted"] == stats["handled"] == 2


def test_the_first_answer_wins_and_the_second_is_news_or_nothing(side: Side) -> None:
    reply = side.ask(1)
    side.control.put(b"died", 9, 0, 0, 1)
    side.replies.answer(b"value", 1, 0, 0, 1)
    assert side.collect() == 2
    assert (reply.kind, reply.body) == (1, b"value"), "the answer came from the actor itself"
    assert side.news == [(9, 0, 0, 1, b"died")]


def test_control_answers_pending_asks_and_the_rest_of_it_is_news_in_order(side: Side) -> None:
    reply = side.ask(4)
    for corr in (0, 4, 0, 99):
        side.control.put(b"%d" % corr, 8, 1, 2, corr)
    assert side.collect() == 4
    assert (reply.kind, reply.body) == (8, b"4")
    assert side.news == [(8, 1, 2, 0, b"0"), (8, 1, 2, 0, b"0"), (8, 1, 2, 99, b"99")]


def test_a_blocked_asker_is_woken_by_its_own_eventfd_unless_it_collects_itself(side: Side, eventfd: Eventfd) -> None:
    blocked, mine = side.ask(1), side.ask(2)
    blocked.waitfd, mine.waitfd = eventfd(), eventfd()
    for corr in (1, 2):
        side.replies.answer(b"", 1, 0, 0, corr)
    side.collect(mine=mine)
    assert select.select([blocked.waitfd, mine.waitfd], [], [], 0)[0] == [blocked.waitfd]


def test_replies_whose_body_is_elsewhere_go_to_fire_without_callbacks(side: Side) -> None:
    """So that somebody fetches it, whether its asker looks or not."""
    elsewhere, here = side.ask(1), side.ask(2)
    side.replies.answer(b"12345678", 10, 4, 5, 1)
    side.replies.answer(b"12345678", 10, 3, 5, 2)
    assert side.collect() == 2
    assert side.fire == [elsewhere]
    assert (elsewhere.flags, here.flags) == (4, 3)


def test_replies_with_callbacks_go_to_fire(side: Side) -> None:
    first, second, third = side.ask(1), side.ask(2), side.ask(3)
    first.cbs, third.cbs = [print], [print]
    for corr in (3, 2, 1):
        side.replies.answer(b"", 1, 0, 0, corr)
    side.collect()
    assert side.fire == [third, first]
    assert second.kind == 1


def test_collect_returns_armed_and_the_next_record_rings_once(side: Side) -> None:
    assert side.collect() == 0
    side.ask(1)
    for _ in range(2):
        side.replies.answer(b"", 1, 0, 0, 1)
    assert os.eventfd_read(side.bell) == 1, "only the first one found a sleeper"
    assert side.collect(clear=True) == 2
    side.control.put(b"", 1, 0, 0, 0)
    assert side.is_rung()


def test_collect_clears_the_bell_only_when_it_is_told(side: Side) -> None:
    os.eventfd_write(side.bell, 1)
    side.collect()
    assert side.is_rung()
    side.collect(clear=True)
    assert not side.is_rung()


def test_collect_does_not_swallow_the_ring_of_mail_that_the_loop_sleeps_for(side: Side) -> None:
    assert side.inbox.next(0) is None
    side.send()
    side.replies.answer(b"", 1, 0, 0, 1)
    assert side.collect(clear=True) == 1
    assert side.is_rung(), "there is mail, and nobody else will ring"
    assert side.take() == b""
    side.send()
    assert side.collect(clear=True) == 0
    assert not side.is_rung(), "the loop is awake and will look"


def test_a_spin_ends_as_soon_as_something_arrives(side: Side) -> None:
    reply = side.ask(1)
    pid = os.fork()
    if pid == 0:
        side.replies.answer(b"", 1, 0, 0, 1)
        os._exit(0)
    while reply.kind < 0:
        side.collect(spin=1000, mine=reply)
    os.waitpid(pid, 0)
    assert reply.kind == 1


def test_a_table_of_other_things_is_a_type_error_and_the_record_stays(side: Side) -> None:
    side.replies.answer(b"kept", 1, 0, 0, 1)
    wrong: Any = {1: "no reply"}
    with pytest.raises(TypeError, match="ReplyBase"):
        side.inbox.collect(wrong, side.fire, side.news, 0, None, False)
    side.control.put(b"", 1, 0, 0, 0)
    assert side.is_rung(), "the lanes are armed all the same"
    reply = side.ask(1)
    assert side.collect() == 2
    assert reply.body == b"kept"


def test_an_error_in_collect_wakes_who_sleeps_for_what_is_still_there(side: Side) -> None:
    """Another thread that sleeps on the bell was not rung for what came while this one was awake."""
    side.table[1] = object()  # type: ignore[assignment]
    side.replies.answer(b"", 5, 0, 9, 1)
    side.replies.answer(b"for another", 5, 0, 9, 2)
    side.inbox.clear()
    with pytest.raises(TypeError):
        side.collect()
    assert side.is_rung()


def test_foreign_code_that_the_garbage_collector_runs_inside_collect_loses_nothing(side: Side) -> None:
    """Tuples of news are made by collect(); each may start the collector, whose finalizers may collect() themselves."""
    entered = []

    class Finalized:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            entered.append(side.collect())

    total, threshold = 3000, gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for number in range(total):
            Finalized()
            side.control.put(b"%d" % number, 1, 0, 0, 0)
            if number % 50 == 0:
                side.collect()
        side.collect()
    finally:
        gc.set_threshold(*threshold)
    assert [body for *_, body in side.news] == [b"%d" % n for n in range(total)]
    assert entered


def test_many_threads_may_collect_at_once_and_every_asker_gets_its_own_answer(side: Side, eventfd: Eventfd) -> None:
    total, wrong = 400, []

    def ask(base: int) -> None:
        waitfd = eventfd()
        for corr in range(base, base + total):
            reply = side.ask(corr)
            side.mail.push(b"", 1, 0, 0, corr, 0, -1)
            side.collect(20, reply)
            reply.waitfd = waitfd
            while reply.kind < 0:
                ready = select.select([waitfd, side.bell], [], [])[0]
                if side.bell in ready:
                    side.collect(0, reply, True)
            if reply.body != b"%d" % corr:
                wrong.append((corr, reply.body))

    pid = os.fork()
    if pid == 0:
        for _ in range(3 * total):
            while (record := side.mail.take()) is None:
                os.sched_yield()
            side.replies.answer(b"%d" % record[3], 1, 0, 0, record[3])
            side.mail.done(record[6])
        os._exit(0)
    threads = [threading.Thread(target=ask, args=(base,)) for base in (1000, 2000, 3000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.waitpid(pid, 0)
    assert (wrong, side.table) == ([], {})


# --- next


def test_next_finishes_the_record_in_hand_and_takes_the_following_one(side: Side) -> None:
    positions = [side.send(b"0"), side.send(b"1")]
    assert side.take() == b"0"
    assert side.mail.stats()["head"] == positions[0]
    assert side.take() == b"1"
    assert side.mail.stats()["head"] == positions[1]
    assert side.inbox.next(0) is None
    assert side.mail.stats()["handled"] == 2


def test_control_and_replies_come_before_mail(side: Side) -> None:
    side.send(b"mail")
    side.control.put(b"", 1, 0, 0, 0)
    assert side.inbox.next(0) == 1
    assert side.inbox.next(0) == 1, "until they are collected"
    side.collect()
    side.replies.answer(b"", 1, 0, 0, 1)
    assert side.inbox.next(0) == 1
    side.collect()
    assert side.take() == b"mail"


def put(side: Side) -> object:
    return side.control.put(b"", 1, 0, 0, 0)


def answer(side: Side) -> object:
    return side.replies.answer(b"", 1, 0, 0, 1)


@pytest.mark.parametrize("knock", [Side.send, put, answer])
def test_when_next_says_nothing_anything_that_comes_rings_the_bell(side: Side, knock: Callable[[Side], object]) -> None:
    assert side.inbox.next(5) is None
    assert not side.is_rung()
    knock(side)
    assert side.is_rung()
    side.inbox.clear()
    assert side.inbox.next(0) is not None


def test_nothing_rings_while_the_consumer_is_awake(side: Side) -> None:
    side.send()
    side.take()
    side.send()
    side.control.put(b"", 1, 0, 0, 0)
    assert not side.is_rung()


def test_a_held_record_stays_in_hand_until_it_is_done(side: Side) -> None:
    position = side.send(b"slow")
    side.send(b"quick")
    assert side.take() == b"slow"
    assert side.inbox.hold() == position
    assert side.take() == b"quick"
    assert side.inbox.next(0) is None
    stats = side.mail.stats()
    assert (stats["handled"], stats["head"]) == (1, position)
    side.mail.done(position)
    assert side.mail.stats()["head"] == side.mail.stats()["tail"]


def test_finish_ends_the_record_in_hand_now(side: Side) -> None:
    side.send()
    side.take()
    side.inbox.finish()
    assert side.mail.stats()["handled"] == 1
    side.inbox.finish()
    assert side.mail.stats()["handled"] == 1, "there was none"
    with pytest.raises(RuntimeError, match="no record in hand"):
        side.inbox.hold()


def test_mail_that_was_cancelled_while_the_consumer_slept_does_not_wake_the_loop(side: Side) -> None:
    position = side.send(b"", 3)
    assert side.mail.cancel(position, 7, 3)
    assert side.inbox.next(0) is None
    assert side.mail.stats()["head"] == side.mail.stats()["tail"]


def test_a_new_inbox_disarms_what_its_dead_predecessor_armed(side: Side) -> None:
    assert side.inbox.next(0) is None
    successor = Inbox(side.bell, side.replies, side.control, side.mail)
    side.mail.bell = -1
    side.send()
    side.mail.bell = side.bell
    assert successor.next(0) is not None
    assert side.mail.stats()["sleeping"] == 0


def test_two_inboxes_may_share_a_reply_lane_and_whoever_sleeps_on_it_is_woken(side: Side, eventfd: Eventfd) -> None:
    """An actor's loop takes mail while another thread of it sleeps until its answer comes."""
    bell = eventfd()
    side.replies.bell = bell
    others = Inbox(bell, side.replies, None)
    assert side.inbox.next(0) is None
    others.collect(side.table, side.fire, side.news, 0, None, False)
    side.send()
    assert side.take() == b""
    side.replies.answer(b"", 1, 0, 0, 1)
    assert select.select([bell], [], [], 0)[0], "the thread that sleeps on it is told, whatever the loop does meanwhile"


def test_the_last_reference_to_a_reply_may_end_in_collect_and_its_finalizer_collect_again(side: Side) -> None:
    class Forgotten(ReplyBase):
        def __del__(self) -> None:
            side.collect()

    kept = side.ask(3)
    for corr in (1, 2):
        side.table[corr] = Forgotten()
    for corr in (1, 2, 3):
        side.replies.answer(b"%d" % corr, 1, 0, 0, corr)
    side.collect()
    assert (kept.body, side.table) == (b"3", {})
    stats = side.replies.stats()
    assert (stats["head"], stats["handled"]) == (stats["tail"], 3)


def test_an_inbox_without_mail_has_lanes_only(bell: int) -> None:
    control = make(bell)
    inbox = Inbox(bell, make(bell), control)
    assert inbox.next(0) is None
    control.put(b"", 1, 0, 0, 0)
    assert inbox.next(0) == 1
    with pytest.raises(TypeError):
        Inbox(bell, control, control, 5)  # type: ignore[arg-type]


def test_no_spin_is_longer_than_its_budget_or_a_millisecond(side: Side) -> None:
    """Not a gate on speed: a spin without an end would hold the GIL for ever."""
    before = time.monotonic()
    for budget in (float("inf"), 1e12, float("nan"), -5.0):
        assert side.inbox.next(budget) is None
        assert side.collect(budget) == 0
    assert time.monotonic() - before < 60


# --- ReplyBase


def test_a_reply_in_a_cycle_is_collected() -> None:
    reply = Reply()
    reply.box = reply
    reply.cbs = [reply]
    gone = weakref.ref(reply)
    del reply
    gc.collect()
    assert gone() is None


def test_a_reply_base_takes_part_in_ordinary_subclassing() -> None:
    class Full(ReplyBase):
        def __init__(self, extra: int, *, named: str) -> None:
            self.extra, self.named = extra, named

    full = Full(1, named="n")
    assert (full.extra, full.named, full.kind) == (1, "n", -1)
    with pytest.raises(TypeError):
        full.kind = "text"  # type: ignore[assignment]
