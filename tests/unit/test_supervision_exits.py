"""An exit reason says what the kernel said, in words, and travels."""

import os
import signal

import pytest

from actors.exits import ExitReason

SENTENCES = [
    (ExitReason("normal"), "stopped itself", False),
    (ExitReason("shutdown"), "shut down", False),
    (ExitReason("shutdown", error="its parent has ended"), "shut down: its parent has ended", False),
    (ExitReason("exception", error="ValueError: boom"), "raised ValueError: boom", True),
    (ExitReason("exception"), "raised an exception", True),
    (ExitReason("signal", signal=signal.SIGSEGV), "killed by SIGSEGV", True),
    (ExitReason("signal", signal=signal.SIGKILL, oom=True), "killed by SIGKILL (out of memory)", True),
    (ExitReason("signal", code=40), "killed by signal 40", True),
    (ExitReason("exit", code=0), "exited with code 0", False),
    (ExitReason("exit", code=3), "exited with code 3", True),
    (ExitReason("hung"), "hung", True),
    (ExitReason("unreachable", error="no heartbeat for 5 s"), "unreachable: no heartbeat for 5 s", True),
]


@pytest.mark.parametrize(("reason", "sentence", "abnormal"), SENTENCES, ids=[sentence for _, sentence, _ in SENTENCES])
def test_every_reason_reads_as_a_sentence_and_is_abnormal_or_not(
    reason: ExitReason, sentence: str, abnormal: bool
) -> None:
    """Normal are: it stopped itself, it was asked to, it left with code 0."""
    assert str(reason) == sentence
    assert reason.abnormal is abnormal
    assert ExitReason.from_wire(reason.to_wire()) == reason


def test_a_reason_on_the_wire_is_plain_and_holds_only_what_is_known() -> None:
    """msgpack knows no enums."""
    wire = ExitReason("signal", signal=signal.SIGKILL).to_wire()
    assert wire == {"kind": "signal", "signal": 9}
    assert type(wire["signal"]) is int


@pytest.mark.parametrize("wire", [{"kind": "vanished"}, {"kind": "signal", "signal": 999}])
def test_a_wire_form_that_makes_no_sense_is_refused(wire: dict[str, object]) -> None:
    """Rather than a reason that no code expects."""
    with pytest.raises(ValueError):
        ExitReason.from_wire(wire)


@pytest.mark.parametrize(
    ("si_code", "si_status", "expected"),
    [
        (os.CLD_EXITED, 0, ExitReason("exit", code=0)),
        (os.CLD_EXITED, 139, ExitReason("exit", code=139)),
        (os.CLD_KILLED, signal.SIGKILL, ExitReason("signal", signal=signal.SIGKILL)),
        (os.CLD_DUMPED, signal.SIGSEGV, ExitReason("signal", signal=signal.SIGSEGV)),
        (os.CLD_KILLED, 40, ExitReason("signal", code=40)),
    ],
)
def test_the_kernels_report_becomes_a_reason(si_code: int, si_status: int, expected: ExitReason) -> None:
    """An exit with code 139 is not a SIGSEGV, whatever a shell says; real-time signals have a number only."""
    assert ExitReason.from_wait(si_code, si_status) == expected


def test_a_stopped_process_has_not_ended() -> None:
    """SIGSTOP is reported by the same call."""
    with pytest.raises(ValueError, match="WEXITED"):
        ExitReason.from_wait(os.CLD_STOPPED, signal.SIGSTOP)
