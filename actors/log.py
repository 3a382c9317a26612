"""Logs: every line of every process reaches the program's log, with the actor's address.

Rule: an actor's logger renders nothing and owns no file: it sends each line as data to the guardian, which passes it to
the program, where structlog (as the program configured it, or quietly by default) handles it. Lines of the framework
itself are `debug` when all is well and `warning` or `error` when somebody should look, so a healthy system is silent.

What an actor prints goes where the program's own output goes, line by line.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any

import msgpack

if TYPE_CHECKING:
    from .client import Client

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


class LazyLog:
    """Stands for an actor's logger until it is first used: most actors never log, and structlog takes 60 ms to import."""

    def __init__(self, client: Client, address: str, level: int) -> None:
        self._make = (client, address, level)

    def __getattr__(self, name: str) -> Any:
        logger = self.__dict__.get("_logger")
        if logger is None:
            logger = self.__dict__["_logger"] = _actor_logger(*self._make)
        return getattr(logger, name)


def _actor_logger(client: Client, address: str, level: int) -> Any:
    import structlog

    def to_guardian(_: Any, method: str, line: Any) -> Any:
        line.setdefault("level", method if method in LEVELS else "info")
        send_line(client, line)
        raise structlog.DropEvent

    return structlog.wrap_logger(
        None,
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            to_guardian,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
    ).bind(actor=address)


class LogHandler(logging.Handler):
    """Standard `logging` in an actor's process: its records take the same way."""

    def __init__(self, client: Client, address: str, level: int) -> None:
        super().__init__(level)
        self._client, self._address = client, address

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line: dict[str, Any] = {
                "event": record.getMessage(),
                "level": record.levelname.lower(),
                "logger": record.name,
                "actor": self._address,
            }
            if record.exc_info:
                line["exception"] = logging.Formatter().formatException(record.exc_info)
            send_line(self._client, line)
        except Exception:
            self.handleError(record)


def send_line(client: Client, line: dict[str, Any]) -> None:
    """One line to the program's log; lost only with the system itself."""
    line.setdefault("timestamp", time.time())
    try:
        client.send("log", line=msgpack.packb(line, default=repr, unicode_errors="backslashreplace"))
    except Exception as error:
        print(f"{line.get('actor')}: {line.get('event')} (log line not sent: {error})", file=sys.stderr)


def emit(body: bytes, level: int) -> None:
    """In the program: hand a line to its structlog, or write it to stderr when the program has not configured one."""
    line = msgpack.unpackb(body, strict_map_key=False, unicode_errors="backslashreplace")
    name = str(line.pop("level", "info"))
    if LEVELS.get(name, 20) < level:
        return
    import structlog

    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line.pop("timestamp", None)))
    logger = structlog.get_logger("actors") if structlog.is_configured() else _quiet_logger(structlog)
    getattr(logger, name if name in LEVELS else "info")(
        line.pop("event", ""), timestamp=stamp, **{str(k): v for k, v in line.items()}
    )


def _quiet_logger(structlog: Any) -> Any:
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[structlog.processors.add_log_level, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())],
    )
