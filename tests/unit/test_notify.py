"""sd_notify's variables: what is taken from the environment, and what is made of it."""

from __future__ import annotations

import os

import pytest

from actors.notify import Notifier

SOCKET = "/run/systemd/notify"


@pytest.mark.parametrize(
    ("environ", "watchdog"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "2000000"}, 2.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, 2.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, 0.0),  # meant for another process
    ],
)
def test_the_watchdogs_time_is_in_seconds_and_only_ours_counts(environ: dict[str, str], watchdog: float) -> None:
    """man 3 sd_watchdog_enabled."""
    notifier = Notifier.take({"NOTIFY_SOCKET": SOCKET, **environ})
    assert (notifier.address, notifier.watchdog) == (SOCKET, watchdog)


def test_the_variables_are_gone_afterwards_and_nothing_else_is() -> None:
    """Whoever is started later must not speak for the service."""
    environ = {"NOTIFY_SOCKET": SOCKET, "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "HOME": "/root"}
    Notifier.take(environ)
    assert environ == {"HOME": "/root"}


def test_without_a_manager_nothing_is_sent_nor_watched(capsys: pytest.CaptureFixture[str]) -> None:
    """Also when a watchdog's time is left over from somewhere."""
    notifier = Notifier.take({"WATCHDOG_USEC": "1000"})
    notifier.tell(READY=1)
    assert notifier.watchdog == 0.0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("usec", ["soon", "-1", "0", "1.5"])
def test_a_watchdogs_time_that_is_none_is_said_and_ignored(usec: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The service runs all the same."""
    assert Notifier.take({"NOTIFY_SOCKET": SOCKET, "WATCHDOG_USEC": usec}).watchdog == 0.0
    assert f"WATCHDOG_USEC={usec}" in capsys.readouterr().err


def test_an_address_of_another_kind_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """vsock, which virtual machines use."""
    notifier = Notifier.take({"NOTIFY_SOCKET": "vsock:2:1234", "WATCHDOG_USEC": "1000"})
    notifier.tell(READY=1)
    notifier.tell(STATUS="running")
    assert capsys.readouterr().err.count("can't be told") == 1
    assert notifier.watchdog == 0.0
