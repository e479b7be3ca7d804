"""Simulated rooms on disk: each pool is simulated once on a machine, by all processes that need it together.

A pool lies in $XDG_CACHE_HOME/ccc_w2v/rooms (~/.cache where that is not set), in a folder named by all that its rooms
depend on, as files of up to CHUNK rooms. A process takes a chunk that nobody works on, simulates it and renames it into
place; what a killed process leaves is another one's to do. Files are mapped into memory: processes share it.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from ccc_w2v.errors import InputError
from ccc_w2v.files import appearing
from ccc_w2v.user_cache import cache_folder

logger = logging.getLogger(__name__)

CHUNK = 50
HELPERS = 7
Response = tuple[Tensor, int]  # samples (L,), and which of them is the direct path


def pool(name: str, rooms: int, simulate: Callable[[int], Response]) -> list[Response]:
    """Return the responses of rooms 0 to ``rooms`` - 1 of the pool ``name``, simulating those that no file holds.

    Where the folder cannot be written, they are simulated for this process alone, with a warning. Raises what
    ``simulate`` raises.
    """
    folder = cache_folder() / "rooms" / name
    chunks = [range(start, min(start + CHUNK, rooms)) for start in range(0, rooms, CHUNK)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _fill(folder, chunks, simulate)
        return [response for chunk in chunks for response in _read(folder, chunk)]
    except (OSError, SafetensorError) as error:
        logger.warning(
            f"{folder}: cannot keep simulated rooms ({error}); {rooms} rooms are simulated for this run alone"
        )
        return [simulate(room) for room in _shown(range(rooms), rooms)]


def _fill(folder: Path, chunks: Sequence[range], simulate: Callable[[int], Response]) -> None:
    """Simulate the chunks that are not there, helped by other cores where there are several of them."""
    missing = [chunk for chunk in chunks if not _is_whole(folder, chunk)]
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    helpers = min(HELPERS, len(os.sched_getaffinity(0)) // ranks, len(missing)) - 1
    context = multiprocessing.get_context("fork")
    started = [
        context.Process(target=_help, args=(folder, missing, simulate), daemon=True) for _ in range(max(0, helpers))
    ]
    for helper in started:
        helper.start()
    try:
        _take_chunks(folder, missing, simulate, wait=True)
    finally:
        for helper in started:
            helper.terminate()
            helper.join()


def _help(folder: Path, chunks: Sequence[range], simulate: Callable[[int], Response]) -> None:
    torch.set_num_threads(1)  # a forked process must not use its parent's threads
    with contextlib.suppress(InputError):  # the parent will come to the same room, and say so
        # From the other end: the first chunk that nobody works on is then near.
        _take_chunks(folder, chunks[::-1], simulate, wait=False)


def _take_chunks(folder: Path, chunks: Sequence[range], simulate: Callable[[int], Response], *, wait: bool) -> None:
    """Simulate every chunk that no other process works on; then, if asked to, wait for the others' chunks."""
    for blocking in (False, True) if wait else (False,):
        for chunk in chunks:
            with _locked(folder, chunk, blocking) as mine:
                # Another process may have written it, or died before it did.
                if mine and not _is_whole(folder, chunk):
                    rooms = _shown(chunk, max(rooms_range.stop for rooms_range in chunks)) if wait else chunk
                    _write(folder, chunk, [simulate(room) for room in rooms])


@contextlib.contextmanager
def _locked(folder: Path, chunk: range, blocking: bool) -> Iterator[bool]:
    """Hold the chunk's lock, which the system releases when a process dies; gives False where another one has it."""
    with open(folder / f".{chunk.start}-{chunk.stop}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def _shown(rooms: range, total: int) -> Iterator[int]:
    """Give rooms with a progress bar."""
    yield from tqdm(rooms, desc=f"simulating rooms {rooms.start} to {rooms.stop} of {total}", unit="room", leave=False)


def _path(folder: Path, chunk: range) -> Path:
    return folder / f"{chunk.start}-{chunk.stop}.safetensors"


def _write(folder: Path, chunk: range, responses: Sequence[Response]) -> None:
    tensors = {
        "samples": torch.cat([response_L for response_L, _ in responses]),
        "lengths": torch.tensor([len(response_L) for response_L, _ in responses]),
        "direct": torch.tensor([direct for _, direct in responses]),
    }
    with appearing(_path(folder, chunk), durable=False, parents=False) as partial:
        save_file(tensors, partial)


def _read(folder: Path, chunk: range) -> list[Response]:
    with safe_open(_path(folder, chunk), framework="pt") as file:
        samples, lengths, direct = (file.get_tensor(name) for name in ("samples", "lengths", "direct"))
    return list(zip(samples.split(lengths.tolist()), direct.tolist(), strict=True))


def _is_whole(folder: Path, chunk: range) -> bool:
    """Tell whether a chunk's file is there; safetensors compares its size with what its header says."""
    try:
        return len(_read(folder, chunk)) == len(chunk)
    except (FileNotFoundError, SafetensorError, ValueError, RuntimeError):
        return False
