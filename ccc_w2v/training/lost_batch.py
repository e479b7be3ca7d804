"""A batch with an utterance that cannot be read: it ends the run, or, with none left to read, weighs nothing."""

from __future__ import annotations

from typing import Any

from ccc_w2v.errors import InputError, one_line_errors


def end_on_bad_audio(sample: dict[str, Any]) -> None:
    """End the run with one line and exit code 2 if the data workers say that this batch must end it."""
    if "error" in sample:
        with one_line_errors():
            raise InputError(f"{sample['error']}; or set task.on_bad_audio=skip")


def weightless(stepped: tuple[Any, Any, dict[str, Any]]) -> tuple[Any, Any, dict[str, Any]]:
    """Return a step's result (loss, sample size, logged values) with everything in it zero."""
    loss, sample_size, logged = stepped
    return loss * 0, sample_size * 0, {key: value * 0 for key, value in logged.items()}
