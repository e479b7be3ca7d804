"""The history of a run's signals: signals.jsonl in its folder, a row for each logging interval."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ccc_w2v.errors import InputError
from ccc_w2v.files import write_whole
from ccc_w2v.training.log import parse_line

SIGNALS, VERDICTS = "signals.jsonl", "verdicts.jsonl"
LOGS = ("hydra_train.log", "train.log")
# What a validation of fairseq's CTC fine-tuning logs, and the signals that it is here.
FINETUNING = {"uer": "valid_letter_error", "loss": "valid_loss"}


def folder_of_run(save_dir: str | Path) -> Path:
    """Return a run's folder: the one that holds "checkpoints", else ``save_dir`` itself."""
    folder = Path(save_dir).absolute()
    return folder.parent if folder.name == "checkpoints" else folder


def read_history(run: str | Path) -> list[dict[str, float]]:
    """Return a run's rows, oldest first: of signals.jsonl, else of its log of JSON lines (fairseq's own runs too).

    Of a run that was resumed before its last row, the rows that were made again replace the earlier. Raises InputError
    for a folder without any.
    """
    run = Path(run)
    if not run.is_dir():
        raise InputError(f"{run}: no such folder; name the folder of a training run")
    rows = list(_without_repeats(read_rows(run / SIGNALS) if (run / SIGNALS).is_file() else _logged_rows(run)))
    if not rows:
        names = ", ".join((SIGNALS, *LOGS))
        raise InputError(f"{run}: no signals of a training (looked for {names}); train with common.log_format=json")
    return rows


def read_verdicts(run: str | Path) -> list[dict[str, Any]]:
    """Return the verdicts that a run has written, oldest first; none where it has written none."""
    path = Path(run) / VERDICTS
    return list(read_rows(path)) if path.is_file() else []


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Add a row to a .jsonl file; a line that a kill has cut off before is closed first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        if file.tell():
            file.seek(-1, 2)
            cut_off = file.read(1) != b"\n"
        else:
            cut_off = False
        file.write((b"\n" if cut_off else b"") + json.dumps(row).encode() + b"\n")


def keep_until(path: Path, update: int) -> list[dict[str, Any]]:
    """Drop the rows after an update from a .jsonl file, which a resumed run makes again; return the others."""
    if not path.is_file():
        return []
    rows = list(read_rows(path))
    kept = [row for row in _without_repeats(rows) if row["update"] <= update]
    if kept != rows:
        write_whole(path, "".join(json.dumps(row) + "\n" for row in kept))
    return kept


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a .jsonl file as they stand; a line that a kill has cut off is passed over."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("update"), (int, float)):
            yield row


def _logged_rows(run: Path) -> list[dict[str, float]]:
    """Return the rows of the first log that a run has; a validation of a fine-tuning joins the row of its update.

    Of several subsets the first counts, as it does for fairseq's best checkpoint.
    """
    path = next((run / name for name in LOGS if (run / name).is_file()), None)
    if path is None:
        return []
    rows: list[dict[str, float]] = []
    with open(path, encoding="utf-8", errors="replace") as lines:
        for tag, values in filter(None, map(parse_line, lines)):
            update = values.get("num_updates")
            if update is None:
                continue
            if tag == "train_inner":
                rows.append({**values, "update": update})
            elif "uer" in values:
                measured = {ours: values[theirs] for theirs, ours in FINETUNING.items() if theirs in values}
                if rows and rows[-1]["update"] == update:
                    rows[-1] = measured | rows[-1]
                else:
                    rows.append({**measured, "update": update})
    return rows


def _without_repeats(rows: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    for row in rows:
        while kept and kept[-1]["update"] >= row["update"]:
            kept.pop()
        kept.append(row)
    return kept
