"""A web server of a folder on the loopback address, in a process of its own, whose answers come late, as from afar."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ccc_w2v.errors import InputError

HOST = "127.0.0.1"
GRACE_SECONDS = 10  # in which the server has to end


def can_serve() -> bool:
    """Tell whether what serves is installed: aiohttp, in the extra ``streams``."""
    return importlib.util.find_spec("aiohttp") is not None


@contextlib.contextmanager
def served(folder: Path, latencies_ms: Sequence[float]) -> Iterator[list[str]]:
    """Serve a folder's files, ranges of them too; give its address for each latency, by which every answer is late.

    The server ends with the block, and where this process is killed. Raises InputError if it does not start.
    """
    # Not forked: the threads and locks of this process have no business there.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve_until_told, args=(str(folder), list(latencies_ms), theirs), daemon=True)
    server.start()
    theirs.close()
    try:
        try:
            port = ours.recv()
        except EOFError as error:
            raise InputError(
                f"the web server of the measurement ended at its start; is {HOST} there? --latency-ms '' leaves it out"
            ) from error
        yield [f"http://{HOST}:{port}/{number}" for number in range(len(latencies_ms))]
    finally:
        with contextlib.suppress(OSError):
            ours.send(None)
        ours.close()
        server.join(GRACE_SECONDS)
        server.kill()
        server.join()


def _serve_until_told(folder: str, latencies_ms: Sequence[float], connection: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the measurement ends its server
    asyncio.run(_serve(folder, latencies_ms, connection))


async def _serve(folder: str, latencies_ms: Sequence[float], connection: Any) -> None:
    from aiohttp import web

    everything = web.Application()
    for number, latency_ms in enumerate(latencies_ms):
        late = web.Application(middlewares=[_late(latency_ms / 1000)])
        late.router.add_static("/", folder)
        everything.add_subapp(f"/{number}", late)
    runner = web.AppRunner(everything, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    connection.send(runner.addresses[0][1])
    told = asyncio.Event()
    # Readable by a message, and by the end of whoever would send it.
    asyncio.get_running_loop().add_reader(connection.fileno(), told.set)
    await told.wait()


def _late(seconds: float) -> Any:
    from aiohttp import web

    @web.middleware
    async def late(request: Any, handler: Any) -> Any:
        if seconds:
            await asyncio.sleep(seconds)
        return await handler(request)

    return late
