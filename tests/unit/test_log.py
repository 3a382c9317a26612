"""Lines in the program: levels, strange fields, and where they go by default."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
import structlog

from actors.log import LEVELS, emit


def line(**fields: Any) -> bytes:
    packed: bytes = msgpack.packb({"event": "hello", "actor": "actor://unit/a", "timestamp": 0.0, **fields})
    return packed


@pytest.mark.parametrize(("given", "shown"), [("debug", False), ("info", False), ("warning", True), ("error", True)])
def test_lines_below_the_level_are_dropped(given: str, shown: bool, capsys: pytest.CaptureFixture[str]) -> None:
    emit(line(level=given), LEVELS["warning"])
    assert ("hello" in capsys.readouterr().err) == shown


def test_by_default_a_line_goes_to_stderr_with_time_level_address_and_fields(
    capsys: pytest.CaptureFixture[str],
) -> None:
    emit(line(level="warning", number=5), LEVELS["info"])
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "warning" in shown.err
    assert "hello" in shown.err
    assert "actor=actor://unit/a" in shown.err
    assert "number=5" in shown.err


def test_a_configured_structlog_gets_the_line_as_data() -> None:
    seen: list[dict[str, Any]] = []

    def keep(logger: Any, method: str, event: dict[str, Any]) -> Any:
        seen.append({**event, "method": method})
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    try:
        emit(line(level="error", strange={"a": [1]}), LEVELS["info"])
    finally:
        structlog.reset_defaults()
    assert seen[0]["event"] == "hello"
    assert seen[0]["method"] == "error"
    assert seen[0]["strange"] == {"a": [1]}


@pytest.mark.parametrize("level", ["nonsense", "", 7])
def test_an_unknown_level_counts_as_info(level: Any, capsys: pytest.CaptureFixture[str]) -> None:
    emit(line(level=level), LEVELS["info"])
    assert "hello" in capsys.readouterr().err
