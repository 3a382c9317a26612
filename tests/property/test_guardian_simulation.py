"""A whole guardian on a virtual clock, in thousands of lives of chance: what must always hold holds."""

from __future__ import annotations

import os

import pytest

from kit.simulation import Simulation

PARTS = 4  # so that workers of xdist share them
LIVES = 10_000
AGAIN = "SIMULATION_SEED"  # one seed, to repeat a failure


def live(first: int, count: int, again: str) -> None:
    with Simulation.patched():
        for seed in range(first, first + count):
            try:
                Simulation(seed).run()
            except Exception as error:
                raise AssertionError(f"seed {seed}: {error}; again: {AGAIN}={seed} {again}") from error


@pytest.mark.parametrize("part", range(PARTS))
def test_ten_thousand_lives_of_a_guardian_keep_every_promise(part: int, request: pytest.FixtureRequest) -> None:
    """One incarnation at a time, starts in order, restarts within their intensity and backoff, every question answered
    once, every end heard of once, whatever can run runs in the end, and nothing is left when all is stopped."""
    again = f"python -m pytest '{request.node.nodeid}'"
    if AGAIN in os.environ:
        live(int(os.environ[AGAIN]), 1, again)
        return
    first = request.config.option.seed * LIVES + part * (LIVES // PARTS)
    live(first, LIVES // PARTS, again)


@pytest.mark.nightly
def test_half_a_million_lives(request: pytest.FixtureRequest) -> None:
    live((1 << 62) + request.config.option.seed * 500_000, 500_000, f"python -m pytest '{request.node.nodeid}'")


def test_the_same_seed_is_the_same_life() -> None:
    def digest() -> tuple[float, int, dict[int, int]]:
        with Simulation.patched():
            world = Simulation(7)
            world.run()
        return world.now, world.steps, dict(world.answered)

    assert digest() == digest()


@pytest.mark.parametrize("broken", ["a restart too many", "a down too many", "a stop forgotten", "a name kept"])
def test_a_broken_promise_is_found(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge itself is tried: with a fault in the code it finds one within a few hundred lives."""
    from actors.guardian.registry import Registry
    from actors.guardian.watch import Watch
    from actors.supervision.intensity import Intensity
    from actors.supervision.settler import Settler

    if broken == "a restart too many":
        allow = Intensity.add
        monkeypatch.setattr(Intensity, "add", lambda self, times, now: (allow(self, times, now)[0], True))
    elif broken == "a down too many":
        tell = Watch._down
        monkeypatch.setattr(Watch, "_down", lambda self, *args: (tell(self, *args), tell(self, *args)))
    elif broken == "a stop forgotten":
        monkeypatch.setattr(Settler, "_begin_stop", lambda self, node: None)
    else:
        forget = Registry.forget

        def keep(self: Registry, record: object, reason: dict[str, object]) -> None:
            forget(self, record, reason)  # type: ignore[arg-type]
            self.by_name[record.name] = record.uid  # type: ignore[attr-defined]

        monkeypatch.setattr(Registry, "forget", keep)
    with pytest.raises(AssertionError, match="again: SIMULATION_SEED="):
        live(0, 500, "")
