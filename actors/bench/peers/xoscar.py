"""Xoscar: the main pool to an actor in a pool of its own process, over its unix socket."""
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import xoscar
from xoscar.backends.allocate_strategy import ProcessIndex

from .framework import Pair, measure
from .python import MESSAGE


class Echo(xoscar.Actor):
    async def echo(self, message: Any) -> Any:
        return message


@contextmanager
def framework() -> Iterator[Pair]:
    with asyncio.Runner() as runner:
        pool = runner.run(xoscar.create_actor_pool("127.0.0.1", n_process=1))
        address = pool.external_address
        actor = runner.run(xoscar.create_actor(Echo, address=address, uid="echo", allocate_strategy=ProcessIndex(1)))

        async def asks(count: int) -> None:
            for _ in range(count):
                await actor.echo(MESSAGE)

        async def tells(count: int) -> None:
            for _ in range(count):
                await actor.echo.tell(MESSAGE)
            await actor.echo(MESSAGE)

        try:
            yield Pair(lambda count: runner.run(asks(count)), lambda count: runner.run(tells(count)))
        finally:
            runner.run(pool.stop())


if __name__ == "__main__":
    from actors.bench.peers.xoscar import framework  # its pool must find the class by name, which `__main__` is not

    measure("xoscar", framework)
