"""All arms and seeds of a comparison, several side by side; a comparison that was killed continues where it was."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from ccc_w2v.comparison.chain import chain_updates, run_chain
from ccc_w2v.comparison.settings import Arm, Settings, as_record, check_data
from ccc_w2v.comparison.training import die_with_parent
from ccc_w2v.comparison.transcripts import archive_of, keep_transcripts, take_transcripts
from ccc_w2v.errors import InputError
from ccc_w2v.files import write_whole
from ccc_w2v.run_folder import Output, claim, keep_record

POLL_SECONDS = 2


def run_comparison(settings: Settings, jobs: int, finished: Callable[[], object]) -> None:
    """Run every chain that is not done, ``jobs`` at a time, and show how far they are.

    ``finished`` is called after each: a comparison takes days, and its results are wanted before all are there.

    Raises InputError where another comparison runs in the folder or made it with other settings, for data that is not
    there, and, after all the others have ended, for the chains that failed.
    """
    if jobs < 1:
        raise InputError(f"--jobs {jobs}: expected a whole number of at least 1")
    check_data(settings)
    _claim(settings)
    chains = settings.chains
    commit = commit_of(settings.recipe)
    arms, seeds = ", ".join(arm.name for arm in settings.arms), ", ".join(map(str, settings.seeds))
    print(f"{arms}; seeds {seeds}; {jobs} side by side, in {settings.out}", flush=True)
    with (
        _held(settings.out),
        ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_begin_worker) as pool,
    ):
        _conditions(settings)
        running = {pool.submit(_chain, settings, arm, seed, commit): (arm, seed) for arm, seed in chains}
        try:
            failures = _follow(settings, running, finished)
        except KeyboardInterrupt:
            # Else the workers, whose chains Ctrl-C ends too, would begin those that still wait.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if failures:
        raise InputError(f"{len(failures)} of {len(chains)} runs failed: {'; '.join(failures)}")


def take_finished(settings: Settings) -> None:
    """Let every chain of which there are kept transcripts be theirs, and run none.

    Raises InputError where no chain has ended, here or elsewhere, and for a folder or an archive of other settings.
    """
    chains = settings.chains
    kept = [] if settings.kept is None else [archive_of(settings.kept, *chain) for chain in chains]
    if not any(path.is_file() for path in kept) and not any(settings.finished(*chain) for chain in chains):
        where = f"{settings.out}, nor among {settings.kept}" if kept else str(settings.out)
        raise InputError(f"none of these arms and seeds has ended in {where}; leave out --finished to run them")
    _claim(settings)
    if settings.kept is not None:
        for arm, seed in chains:
            take_transcripts(settings, arm, seed, settings.kept)


def commit_of(folder: Path) -> str:
    """Return the commit that a checkout's folder is at, marked where files differ from it; "unknown" without git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _claim(settings: Settings) -> None:
    """Let a folder hold chains of one scale only; arms and seeds may be added."""
    record = settings.out / "comparison.json"
    output = Output(settings.out, as_record(settings), record, [record])
    if not claim(output):
        settings.out.mkdir(parents=True, exist_ok=True)
        keep_record(output)


@contextmanager
def _held(out: Path) -> Iterator[None]:
    """Hold a folder for this process until it ends, however it ends."""
    with open(out / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{out}: another comparison is running here; wait for it or name another --out") from error
        yield


def _conditions(settings: Settings) -> None:
    """Write the test set under the recipe's conditions, unless it is there."""
    from ccc_w2v.dataset.conditions import write_conditions

    write_conditions(
        settings.data / "test.tsv",
        sorted((settings.recipe / "conditions").glob("*.yaml")),
        settings.data / "conditions",
        noise_manifest=settings.data / "noise_test.tsv",
    )


def _begin_worker() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    die_with_parent()
    import torch

    torch.set_num_threads(1)


def _chain(settings: Settings, arm: Arm, seed: int, commit: str) -> None:
    """Run a chain in a worker, which has its output and its progress in files of the chain's folder."""
    folder = settings.folder(arm, seed)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "chain.log", "a", encoding="utf-8") as log:
        # Progress bars and warnings of several chains would fill one terminal.
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if settings.kept is not None:
        take_transcripts(settings, arm, seed, settings.kept)
    run_chain(settings, arm, seed, commit, lambda done: write_whole(folder / "progress.json", json.dumps(done)))
    if settings.kept is not None:
        keep_transcripts(settings, arm, seed, settings.kept)


def _follow(
    settings: Settings, running: dict[Future[None], tuple[Arm, int]], finished: Callable[[], object]
) -> list[str]:
    """Show the updates of all trainings until every chain has ended; returns what to say of those that failed."""
    total = sum(chain_updates(settings, arm) for arm, _ in running.values())
    failures, waiting = [], set(running)
    with tqdm(
        total=total, initial=_done(settings, running), desc="comparison", unit="update", dynamic_ncols=True
    ) as bar:
        while waiting:
            ended, waiting = wait(waiting, POLL_SECONDS, return_when=FIRST_COMPLETED)
            bar.update(_done(settings, running) - bar.n)
            for future in ended:
                arm, seed = running[future]
                if (error := future.exception()) is not None:
                    failures.append(f"{arm.name} with seed {seed}: {error}")
                bar.write(f"{arm.name}, seed {seed}: {'failed' if error else 'done'}")
            if any(future.exception() is None for future in ended):
                finished()
    return failures


def _done(settings: Settings, running: dict[Future[None], tuple[Arm, int]]) -> int:
    return sum(_chain_done(settings.folder(arm, seed) / "progress.json") for arm, seed in running.values())


def _chain_done(path: Path) -> int:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else 0
