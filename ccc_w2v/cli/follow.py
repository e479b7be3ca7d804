"""Run a training command with one progress bar over its updates; everything it prints goes to a log file.

ccc-w2v follow --log pretrain.log -- fairseq-hydra-train ... common.log_format=json
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from tqdm import tqdm

from ccc_w2v.errors import InputError
from ccc_w2v.training.log import parse_line

# fairseq prints its whole configuration before it trains.
MAX_UPDATE = re.compile(r"'max_update': (\d+)")
SHOWN = ("loss", "accuracy_contrastive", "wer")
# What a training says that was told to stop and has saved.
STOPPED = ("told to stop: ", "interrupted ")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log", type=Path, required=True, help="file that the output is appended to")
    parser.add_argument("--title", default="training", help="label of the progress bar")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and the command to run")
    arguments = parser.parse_args()
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        parser.error("no command after --")
    if shutil.which(command[0]) is None:
        raise InputError(f"{command[0]}: no such command; expected -- and a program on the PATH, or the path of one")
    return follow(command, arguments.log, arguments.title)


def follow(command: list[str], path: Path, title: str) -> int:
    """Run a command with a progress bar, append what it prints to ``path``, and return its exit code."""
    path.parent.mkdir(parents=True, exist_ok=True)
    last_lines: deque[str] = deque(maxlen=20)
    with (
        open(path, "a", encoding="utf-8") as log,
        tqdm(desc=title, unit=" updates", mininterval=1, dynamic_ncols=True) as bar,
        _signals_passed_on() as started,
        # In a session of its own the training hears of a Ctrl-C once, from here; this program shows it save.
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        ) as process,
    ):
        started(process)
        for line in process.stdout or ():
            log.write(line)
            log.flush()
            last_lines.append(line.rstrip())
            _advance(bar, line)
    if process.returncode:
        errors = [line for line in last_lines if line.startswith("error: ")]
        stopped = [line for line in last_lines if any(word in line for word in STOPPED)]
        print("\n".join(errors or stopped or last_lines), file=sys.stderr)
        print(f"{command[0]}: exit code {process.returncode}; its whole output is in {path}", file=sys.stderr)
    return process.returncode


@contextlib.contextmanager
def _signals_passed_on() -> Iterator[Callable[[subprocess.Popen[str]], None]]:
    """Let what would end this program end the training, which saves first; signals that are ignored stay so.

    Gives a function to name the training with, once it runs.
    """
    running: list[subprocess.Popen[str]] = []
    waiting: list[int] = []

    def pass_on() -> None:
        for process in running:
            while waiting:
                number = waiting.pop(0)
                with contextlib.suppress(ProcessLookupError):
                    # A terminal sends Ctrl-C to every process of a job.
                    os.killpg(process.pid, number) if number == signal.SIGINT else process.terminate()

    def started(process: subprocess.Popen[str]) -> None:
        running.append(process)
        pass_on()

    def note(number: int, frame: FrameType | None) -> None:
        waiting.append(number)
        pass_on()

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield started
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _advance(bar: tqdm, line: str) -> None:
    if bar.total is None and (match := MAX_UPDATE.search(line)):
        bar.total = int(match[1])
        bar.refresh()
    parsed = parse_line(line)
    if parsed is None:
        return
    values = parsed[1]
    done = int(values.get("num_updates", bar.n))
    if done > bar.n and bar.n == 0 and parsed[0] != "train_inner":
        bar.initial = done
    bar.update(max(0, done - bar.n))
    shown = {name: values[name] for name in SHOWN if name in values}
    if shown:
        bar.set_postfix(shown, refresh=False)
