"""Probe every new checkpoint of a run while it trains: error rates in the run's folder and in its TensorBoard.

It only reads what the training writes. A checkpoint that the training deletes meanwhile stays whole through a link to
it; a probe that is killed is made again by the next watch, one that is finished is not.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ccc_w2v.checkpoint.read import load_untrusted
from ccc_w2v.errors import InputError
from ccc_w2v.probe.ctc_head import ProbeSettings
from ccc_w2v.probe.run_probe import run_probe
from ccc_w2v.training.health.history import append_row, read_rows

logger = logging.getLogger(__name__)

FOLDER, RESULTS = "probes", "probes.jsonl"


@dataclass
class Watch:
    """A run's folder, what its checkpoints are probed on, and which of its files were seen already."""

    run: Path
    train: str | Path
    dev: str | Path
    tests: Mapping[str, str | Path]
    settings: ProbeSettings = field(default_factory=ProbeSettings)
    device: str = "cpu"
    tensorboard: Path | None = None
    seen: set[tuple[int, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Raise InputError for a folder that is none."""
        if not self.run.is_dir():
            raise InputError(f"{self.run}: no such folder; name the folder of a training run")

    def look(self) -> int:
        """Probe the checkpoints that are new since the last look, oldest first; return how many were probed."""
        probed = 0
        for path in self.new_checkpoints():
            with _held(path, self.run / FOLDER) as linked:
                if linked is None:
                    continue
                try:
                    probed += self._probe(linked)
                except InputError as error:
                    # The training may be writing something else here; the next checkpoint may be whole.
                    logger.warning(f"{path} is not probed: {error}")
        return probed

    def new_checkpoints(self) -> list[Path]:
        """Return the checkpoints whose files no look has seen, oldest first."""
        known: list[tuple[int, Path]] = []
        for path in [*self.run.glob("checkpoint*.pt"), *(self.run / "checkpoints").glob("checkpoint*.pt")]:
            with suppress(FileNotFoundError):
                status = path.stat()
                identity = (status.st_ino, status.st_mtime_ns)
                if identity not in self.seen:
                    self.seen.add(identity)
                    known.append((status.st_mtime_ns, path))
        return [path for _, path in sorted(known)]

    def _probe(self, checkpoint: Path) -> int:
        update = updates_of(checkpoint)
        results = self.run / RESULTS
        if update in {row["update"] for row in _rows(results)}:
            return 0
        out = self.run / FOLDER / f"update{update:07d}"
        cache = out / "features"
        # What is there without a result is a probe that was killed, perhaps of another file of this update.
        measured = run_probe(
            checkpoint,
            self.train,
            self.dev,
            self.tests,
            out,
            self.settings,
            cache=cache,
            device=self.device,
            overwrite=True,
        )
        shutil.rmtree(cache, ignore_errors=True)
        row: dict[str, Any] = {"update": update, "layer_weights": measured["layer_weights"]}
        for name, rates in measured["tests"].items():
            for unit in ("cer", "wer"):
                row[f"probe_{name}_{unit}"] = rates[unit]["rate"]
                row[f"probe_{name}_{unit}_interval"] = rates[unit]["interval"]
        append_row(results, row)
        self._show(row)
        shown = ", ".join(f"{name} {value:.3f}" for name, value in row.items() if isinstance(value, float))
        logger.info(f"update {update}: {shown}")
        return 1

    def _show(self, row: dict[str, Any]) -> None:
        if self.tensorboard is None:
            return
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(self.tensorboard / "probe")) as writer:
            for name, value in row.items():
                if isinstance(value, float):
                    writer.add_scalar(name, value, row["update"])


def watch_until(watch: Watch, finished: Callable[[], bool], pause: float, sleep: Callable[[float], None]) -> None:
    """Look again and again with pauses (seconds) between, until a look finds nothing new and ``finished`` says so."""
    while True:
        last = finished()
        if watch.look() == 0:
            if last:
                return
            sleep(pause)


@contextmanager
def alone_in(run: Path) -> Iterator[None]:
    """Hold a run's probes for this process. Raises InputError where another watch is at work on them."""
    (run / FOLDER).mkdir(exist_ok=True)
    with open(run / FOLDER / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{run}: another probe-watch is at work on this run; stop it first") from error
        for left in (run / FOLDER).glob(".checkpoint-*"):
            left.unlink()  # by a watch that was killed
        yield


def updates_of(checkpoint: Path) -> int:
    """Return after how many updates a checkpoint was written. Raises InputError for a file that does not say so."""
    history = load_untrusted(checkpoint).get("optimizer_history")
    if not history:
        raise InputError(f"{checkpoint}: does not say after how many updates it was written")
    return int(history[-1]["num_updates"])


@contextmanager
def _held(path: Path, folder: Path) -> Iterator[Path | None]:
    """Give another name for a file, so that deleting or replacing it does not matter; None where it is gone already."""
    linked = folder / f".checkpoint-{os.getpid()}-{time.monotonic_ns()}.pt"
    try:
        try:
            os.link(path, linked)
        except FileNotFoundError:
            yield None
            return
        except OSError:  # a disk without links
            shutil.copyfile(path, linked)
        yield linked
    finally:
        linked.unlink(missing_ok=True)


def _rows(path: Path) -> list[dict[str, Any]]:
    return list(read_rows(path)) if path.is_file() else []
