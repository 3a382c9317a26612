"""Births: one zygote, candidates for its place, and attempts that may fail at any point.

A newborn is forked first and told who it is afterwards, over a socket of its own. So a spare can wait, forked and
rehearsed, for the next birth, which then takes a fifth of the time; without one, the birth message is sent to a process
that is still being forked.

A module that holds threads is not for a zygote (zygote.py): actors that need one are exec'd, and wait for their birth
message just the same.

Protocol (proved by killing newborns and zygotes thousands of times): each birth has an attempt number in the mailbox's
header, which the newborn claims by compare-and-swap before it touches the mailbox. Until its `hello` the only sign of
death is the end of file on its socket; afterwards only the kernel's word (`waitid`) counts. When the zygote dies, every
birth without hello is revoked by compare-and-swap: success means that nobody was born, and it is sent to the next
zygote; failure means that the newborn lives, and its hello is awaited.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

from .. import wire
from ..exits import ExitReason
from .ignition import exec_newborn, exec_zygote

if TYPE_CHECKING:
    from .main import Guardian
    from .registry import Record

TRIES = 5  # births of one incarnation that may die before their hello until it counts as a crash


class Line:
    """A zygote or a candidate: its socket, what it has imported (or is to import), and what it is importing."""

    def __init__(self, sock: socket.socket, modules: list[str]) -> None:
        self.sock, self.modules, self.pid, self.importing = sock, modules, 0, ""


class Nursery:
    """Makes actor processes."""

    def __init__(self, guardian: Guardian, config: dict[str, Any]) -> None:
        self.guardian, self.config = guardian, config
        self.zygote: Line | None = None
        self.starting: Line | None = None  # exec'd, not ready yet
        self.candidate: Line | None = None
        self.loaded: set[str] = set()  # what the present zygote has imported
        self.wanted: list[str] = list(config.get("preload") or ())  # what a new zygote must have, in this order
        self.preload = frozenset(self.wanted)
        self.refused: dict[str, str] = {}  # module -> why it can't be imported there
        self.fatal: collections.Counter[str] = (
            collections.Counter()
        )  # module -> candidates that died while they imported it
        self.threaded: set[str] = set()  # modules that have threads of their own
        self.waiting: list[Record] = []  # births that have not been sent yet
        self.sent: dict[int, Record] = {}  # uid -> births without hello
        self.path: list[str] = list(config["path"])
        self.spare: tuple[int, socket.socket] | None = None
        self.deaths = 0
        self._numbers = itertools.count(1)

    # --- the zygote

    def _start_zygote(self) -> None:
        try:
            self.adopt(*exec_zygote(self.config))
        except OSError as error:  # no descriptors, no processes: there may be some soon
            self.guardian.watch.log("warning", "the process that makes actors can't be started now", error=str(error))
            self.guardian.timers.after(0.2, self._start_zygote)

    def adopt(self, sock: socket.socket, pid: int) -> None:
        """A zygote was exec'd; it will say when it is ready."""
        self.starting = Line(sock, [])
        self.starting.pid = pid
        self.loaded = set()
        self._listen(self.starting)

    def _listen(self, line: Line) -> None:
        line.sock.setblocking(False)
        self.guardian.on(line.sock.fileno(), lambda _: self._hear(line))

    def _close(self, line: Line) -> None:
        self.guardian.off(line.sock.fileno())
        line.sock.close()

    def _hear(self, line: Line) -> None:
        try:
            message, _ = wire.recv(line.sock)
        except BlockingIOError:
            return
        if message is None:
            self._lost(line)
        elif message["op"] == "zygote":
            self._promote(line, message)
        elif message["op"] == "importing":
            line.pid, line.importing = message["pid"], message["module"]
        elif message["op"] == "unfit":
            self._unfit(line, message)
        elif message["op"] == "threaded":
            self._threaded(line, message["modules"])
        elif message["op"] == "unborn":
            self._unborn(message)

    def _promote(self, line: Line, message: wire.Message) -> None:
        """A zygote is ready: from now on it makes the actors."""
        line.pid = message["pid"]
        if line is self.starting:
            self.starting = None
        if line is self.candidate:
            self.candidate = None
        if self.zygote is not None:
            self._close(self.zygote)  # end of file: it leaves
        self._drop_spare()
        self.zygote = line
        self.loaded.update(message["modules"])
        self.pump()

    def _lost(self, line: Line) -> None:
        """End of file. Births that it had accepted and that were not born go to the next one."""
        self._close(line)
        if line is self.candidate:
            self.candidate = None
            if not line.importing:  # it was never born
                self.guardian.timers.after(0.02, self.pump)
                return
            self.fatal[line.importing] += 1
            if self.fatal[line.importing] > 1:  # once may have been somebody's SIGKILL
                self._refuse_modules([line.importing], "the process died in its import")
        elif line is self.starting or line is self.zygote:
            was_ready = line is self.zygote
            self.zygote = self.starting = None
            self.deaths = 0 if was_ready else self.deaths + 1
            if self.deaths > 5:
                self.guardian.give_up("the zygote does not start (see its traceback on stderr)")
                return
            if self.candidate is not None:
                self._hear(self.candidate)  # its first word, which tells its pid, may still be unread
            if self.candidate is not None:
                self._close(self.candidate)
                _kill(self.candidate)
                self.candidate = None
            if self.zygote is None:  # else that word was that it is ready
                self._start_zygote()
            for record in list(self.sent.values()):
                self._revoke(record)
        self.pump()

    def _revoke(self, record: Record) -> None:
        assert record.mail is not None
        if record.mail.revoke(record.attempt):
            self.sent.pop(record.uid, None)
            self.guardian.deaths.drop_incarnation(record)
            self.waiting.append(record)

    # --- candidates

    def _unfit(self, line: Line, message: wire.Message) -> None:
        self._close(line)
        self.candidate = None
        self._refuse_modules([message["module"]] if message["module"] else line.modules, message["error"])
        self.pump()

    def _threaded(self, line: Line, modules: list[str]) -> None:
        self._close(line)
        self.candidate = None
        self.threaded.update(modules)
        self.wanted = [module for module in self.wanted if module not in self.threaded]
        for module in modules:
            text = "a module has threads after its import, and those don't survive a fork: actors that need it start from scratch, slower"
            self.guardian.watch.log("warning", text, module=module)
        self.pump()

    def _give_up_candidate(self) -> None:
        """An import that nobody waits for any more must not keep others waiting (it may hang for ever)."""
        line = self.candidate
        if line is None or not line.importing:
            return
        needed = self.preload.union(*(record.modules for record in self.waiting))
        if needed.isdisjoint(line.modules):
            self.guardian.watch.log("warning", "an import was not done in time and is given up", module=line.importing)
            self.wanted.remove(line.importing)  # wanted again when somebody needs it
            _kill(line)

    def _refuse_modules(self, modules: list[str], error: str) -> None:
        for module in modules:
            self.refused[module] = error
            if module in self.wanted:
                self.wanted.remove(module)
        for record in [record for record in self.waiting if set(record.modules) & set(modules)]:
            self.waiting.remove(record)
            self.guardian.hands.not_importable(record, modules[0], error)

    def _start_candidate(self, modules: list[str]) -> None:
        assert self.zygote is not None
        try:
            mine, theirs = wire.pair()
        except OSError:  # no descriptors
            self.guardian.timers.after(0.1, self.pump)
            return
        self.candidate = Line(mine, modules)
        try:
            wire.send(self.zygote.sock, {"op": "candidate", "modules": modules, "path": self.path}, [theirs.fileno()])
        except OSError:
            mine.close()
            self.candidate = None
        else:
            self._listen(self.candidate)
        finally:
            theirs.close()

    # --- births

    def want(self, record: Record) -> str | None:
        """Note what a record's payload needs. The name of a module that can't be imported there, None when all is well."""
        for module in record.modules:
            if module in self.refused:
                return module
        self._note(record)
        self.path.extend(entry for entry in record.setting.get("path", ()) if entry not in self.path)
        return None

    def _note(self, record: Record) -> None:
        for module in record.modules:
            if module not in self.wanted and module not in self.refused and module not in self.threaded:
                self.wanted.append(module)

    def begin(self, record: Record) -> None:
        """A new incarnation of this actor is due."""
        record.births = 0
        self._note(record)
        self.waiting.append(record)
        self.pump()

    def cancel(self, record: Record) -> bool:
        """It is not wanted any more. True: nothing of it was sent."""
        if record in self.waiting:
            self.waiting.remove(record)
            self._give_up_candidate()
            return True
        return False

    def pump(self) -> None:
        """Send what can be sent; import first what is missing."""
        if self.zygote is None:
            return
        missing = [module for module in self.wanted if module not in self.loaded]
        if missing and self.candidate is None:
            self._start_candidate(missing)
        for record in list(self.waiting):
            if self.zygote is not None and not any(
                module in self.wanted and module not in self.loaded for module in record.modules
            ):
                self.waiting.remove(record)
                self._send(record)

    def _send(self, record: Record) -> None:
        guardian = self.guardian
        try:
            found = self._process_for(record)
        except OSError as error:
            self._without_process(record, error)
            return
        if found is None:  # the zygote has not read yet (a burst), or is gone
            self.waiting.insert(0, record)
            guardian.timers.after(0.002, self.pump)
            return
        number, mine = found
        try:
            peer = guardian.peers.add(mine, record.door, record.uid)
        except OSError as error:
            self._without_process(record, error)
            return
        try:
            stacks = guardian.stacks.open(record, peer)
        except OSError as error:
            guardian.peers.remove(peer)
            self._without_process(record, error)
            return
        record.attempt += 1
        record.sent = time.clock_gettime(time.CLOCK_BOOTTIME)
        record.pid, record.bye, record.cradle, record.peer = 0, {}, number, peer
        record.killed, record.hung = False, None
        assert record.mail is not None
        record.mail.grant(record.attempt)
        guardian.listen(peer)
        self.sent[record.uid] = record
        message = {
            "system": self.config["system"],
            "name": record.name,
            "uid": record.uid,
            "attempt": record.attempt,
            "endpoint": peer.id,
            "payload": record.payload,
            "setting": record.setting,
            "on_error": record.options.get("on_error", "crash"),
            "log_level": self.config["log_level"],
            "ask_timeout": self.config.get("ask_timeout"),
            "nofile": self.config["nofile"],
            "limits": record.limits,
            "redeliver": record.options.get("redeliver", 0),
            "owed": list(record.owed),
        }
        if "kit" in self.config:
            message["kit"] = self.config["kit"]
        guardian.peers.send(peer, message, [record.mail_fd, *peer.lanes(), stacks, *record.slots])
        os.close(stacks)
        os.close(peer.control_fd)
        peer.control_fd = -1

    def _process_for(self, record: Record) -> tuple[int, socket.socket] | None:
        """A process that waits for a birth message: its number and our end of its socket."""
        if self.threaded.isdisjoint(record.modules):
            return self._take_spare() or self._fork()
        sock, _ = exec_newborn(self.config, self.path)
        return next(self._numbers), sock

    def _fork(self) -> tuple[int, socket.socket] | None:
        """A process in the making: its number and our end of its socket."""
        if self.zygote is None:
            return None
        mine, theirs = wire.pair()
        number = next(self._numbers)
        try:
            wire.send(self.zygote.sock, {"op": "fork", "number": number}, [theirs.fileno()])
        except OSError:
            mine.close()
            return None
        finally:
            theirs.close()
        return number, mine

    # --- spares

    def keep_spare(self) -> None:
        """Called when a birth is done: have a process ready for the next one."""
        if self.spare is None and not self.waiting and not self.sent:
            with contextlib.suppress(OSError):  # no descriptors: the next birth will tell
                self.spare = self._fork()
            if self.spare is not None:
                self.guardian.on(self.spare[1].fileno(), lambda _: self._drop_spare())

    def _take_spare(self) -> tuple[int, socket.socket] | None:
        spare, self.spare = self.spare, None
        if spare is not None:
            self.guardian.off(spare[1].fileno())
        return spare

    def _drop_spare(self) -> None:
        """It died, or is of a zygote that knows too little: end of file tells it to leave."""
        spare = self._take_spare()
        if spare is not None:
            spare[1].close()

    def hello(self, record: Record, pid: int) -> None:
        self.sent.pop(record.uid, None)
        record.pid = pid

    def died_before_hello(self, record: Record) -> None:
        """End of file on a newborn's socket: try again, a few times."""
        if self.sent.pop(record.uid, None) is None:
            return
        self.guardian.deaths.drop_incarnation(record)
        record.births += 1
        if record.births >= TRIES:
            self.guardian.deaths.ended(
                record, ExitReason("exception", error=f"its process died {TRIES} times before it could say hello")
            )
        else:
            self.waiting.append(record)
            self.pump()

    def _unborn(self, message: wire.Message) -> None:
        """The zygote could not fork."""
        if self.spare is not None and self.spare[0] == message["number"]:
            self._drop_spare()
        for record in [record for record in self.sent.values() if record.cradle == message["number"]]:
            del self.sent[record.uid]
            self.guardian.deaths.drop_incarnation(record)
            self._without_process(record, message["error"])

    def _without_process(self, record: Record, error: object) -> None:
        self.guardian.deaths.ended(record, ExitReason("exception", error=f"no process could be made: {error}"))


def _kill(candidate: Line) -> None:
    """Nobody needs what it imports."""
    if not candidate.pid:  # it has said nothing yet, and will leave when it does
        return
    with contextlib.suppress(ChildProcessError):  # reaped: its number may be a stranger's
        os.waitid(os.P_PID, candidate.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        os.kill(candidate.pid, signal.SIGKILL)
