"""`actors run` is signalled, as a whole group or alone, once or twice, at any moment: in order, or at once, never left."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from kit import LeakGuard, Service, system_name, until

WORKERS = r"""
import os, time
from actors import Actor
from actors.supervision import Child, Supervisor

class Steady(Actor):
    def on_start(self):
        print("ready\n", end="", flush=True)
    def on_stop(self, reason):
        print("stopped\n", end="", flush=True)

class Busy(Actor):
    def on_start(self):
        self.after(0, self.work)
    def work(self):
        print("ready\n", end="", flush=True)
        time.sleep(60)

steady = Supervisor(Child(Steady, count=2), name="steady")
busy = Supervisor(Child(Busy, count=2), name="busy")
"""
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
TIMES = [4, pytest.param(34, marks=pytest.mark.nightly)]  # of each of three


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("number", SIGNALS)
def test_once_stops_in_order_and_twice_at_once(
    number: signal.Signals, times: int, tmp_path: Path, rng: random.Random, nothing_is_left: LeakGuard
) -> None:
    """To the program or to its group: after one, every on_stop has run and the code is 128 + n (hangups come in twos); a
    second one, while handlers don't come back, kills; nothing is left either way."""
    (tmp_path / "workers.py").write_text(WORKERS)
    for turn in range(times):
        tree = "steady" if turn % 2 else "busy"
        service = Service(tmp_path, f"workers:{tree}", "--name", system_name())
        second = signal.SIGTERM if number == signal.SIGHUP else number
        send = rng.choice([service.signal, service.signal_group])
        try:
            assert [service.line(), service.line()] == ["ready", "ready"]
            send(number)
            assert "once more kills" in service.complaint()
            if number == signal.SIGHUP:
                send(number)
            if tree == "busy":
                send(second)
            code, out, _ = service.end()
        finally:
            service.stop()
        assert (code, out) == ((128 + number, "stopped\nstopped\n") if tree == "steady" else (-second, ""))
        until(lambda: not nothing_is_left.processes_left(), "no process is left", 5.0)


@pytest.mark.parametrize("times", [10, pytest.param(100, marks=pytest.mark.nightly)])
def test_a_signal_at_any_moment_of_the_start_or_later_ends_it_all(
    times: int, tmp_path: Path, rng: random.Random, nothing_is_left: LeakGuard
) -> None:
    """From its first import on: by its own handler or the default action, and without a traceback of ours."""
    (tmp_path / "workers.py").write_text(WORKERS)
    for _ in range(times):
        number = rng.choice(SIGNALS)
        service = Service(tmp_path, "workers:steady", "--name", system_name())
        try:
            time.sleep(rng.uniform(0.0, 0.6))
            service.signal_group(number)
            code, _, err = service.end()
        finally:
            service.stop()
        before_us = code == 1 and "init_import_site" in err  # Python's own start was interrupted
        assert code in (128 + number, -number) or before_us, (code, err)
        assert "Traceback" not in err or "KeyboardInterrupt" in err, err
        until(lambda: not nothing_is_left.processes_left(), "no process is left", 5.0)
