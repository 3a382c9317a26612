"""The program is stopped (Ctrl-Z, SIGSTOP) while its actors go on: nothing waits for it, and nothing grows without end."""

from __future__ import annotations

import signal

import pytest

from actors import ActorSystem
from kit import LeakGuard, Resources, Script, kill, system_name

CODE = """
import sys
from actors import Actor, ActorSystem

class Chatty(Actor):
    def chat(self, lines):
        for number in range(lines):
            self.log.warning("line", number=number, padding="x" * 300)
        return lines

system = ActorSystem(sys.argv[1])
chatty = system.spawn(Chatty, name="chatty")
print("ready", system.guardian_pid, flush=True)
sys.stdin.read()
import signal
signal.pause()
"""
LINES = 5_000  # of some 500 bytes


@pytest.mark.parametrize("rounds", [8, pytest.param(100, marks=pytest.mark.nightly)])
def test_a_stopped_program_costs_its_guardian_a_bounded_backlog_and_is_told_what_it_missed(
    rounds: int, nothing_is_left: LeakGuard
) -> None:
    """Actors answer others and log meanwhile; past a limit log lines are dropped, counted, and said when it goes on."""
    name = system_name("stopped")
    with Script(CODE, name) as script:
        guardian = int(script.expect("ready"))
        kill(script.pid, signal.SIGSTOP)
        with ActorSystem.attach(name) as system:
            chatty = system.lookup("chatty")
            sizes = []
            for _ in range(rounds):
                assert chatty.ask("chat", LINES).result(60) == LINES
                system.ping(60)
                sizes.append(Resources.of(guardian).resident)
            print(f"resident bytes of the guardian: {sizes}")
            assert sizes[-1] - sizes[rounds // 2] < LINES * 300, "it grows no more"
        kill(script.pid, signal.SIGCONT)
        while "missed log lines" not in (line := script.expect("")):
            pass
        assert "count=" in line
        script.kill()
