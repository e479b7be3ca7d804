"""Around fairseq's training: paths of the command's folder, checks before it starts, one line for a mistake.

`hydra_plugins/ccc_w2v_training.py` hands every training over to start_training once it has found this package.
"""

from __future__ import annotations

import functools
import os
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from omegaconf.errors import OmegaConfBaseException

import ccc_w2v
from ccc_w2v.data.stored_audio import is_stream
from ccc_w2v.errors import end_training, explain, is_out_of_memory
from ccc_w2v.training.checkpoint_files import LAST
from ccc_w2v.training.checks import check_run
from ccc_w2v.training.health.history import folder_of_run
from ccc_w2v.training.resume import RunIsFinished
from ccc_w2v.training.trace import traced

# Settings that name what a run reads; what it writes (save_dir, tensorboard_logdir) lies in the run's folder.
INPUT_PATHS = {
    "task": [
        *("data", "target_dictionary", "augment"),
        *("mixture", "noise_manifest", "music_manifest", "babble_manifest", "rir_manifest"),
    ],
    "model": ["w2v_path"],
    "checkpoint": ["restore_file", "finetune_from_model", "continue_once"],
}
INTERRUPTED = 130


def start_training(call_main: Callable[..., Any], cfg: Any, main: Callable[..., Any], **kwargs: Any) -> Any:
    """Run fairseq's call_main; a user's mistake, an interrupt and full memory end it with one line and an exit code."""
    from hydra.utils import get_original_cwd

    with training_errors(cfg):
        resolve_paths(cfg, get_original_cwd())
        if int(cfg.distributed_training.distributed_rank or 0) == 0:
            check_run(cfg)
        return call_main(cfg, functools.partial(run_rank, main), **kwargs)


def run_rank(main: Callable[..., Any], cfg: Any, **kwargs: Any) -> Any:
    """Run fairseq's main in one process; a finished run returns as one that has just ended."""
    # A process that fairseq has spawned imports this module before fairseq itself.
    ccc_w2v.register()
    first = int(cfg.distributed_training.distributed_rank or 0) == 0
    recording = traced(folder_of_run(cfg.checkpoint.save_dir)) if cfg.common.profile and first else nullcontext()
    with training_errors(cfg), recording:
        try:
            return main(cfg, **kwargs)
        except RunIsFinished:
            return None


def resolve_paths(cfg: Any, folder: str | Path) -> None:
    """Make the input paths of a configuration absolute: relative ones count from the folder of the command.

    hydra has changed the working directory to the run's folder; a path that exists only from there is left alone.
    """
    for part, names in INPUT_PATHS.items():
        for name in names:
            value = cfg[part].get(name) if cfg.get(part) and name in cfg[part] else None
            if not isinstance(value, str) or os.path.isabs(value) or value == LAST or is_stream(value):
                continue
            preset = name == "augment" and not re.search(r"[/.]", value)
            here, there = os.path.exists(value), os.path.normpath(os.path.join(folder, value))
            if not preset and (os.path.exists(there) or not here):
                cfg[part][name] = there


@contextmanager
def training_errors(cfg: Any) -> Iterator[None]:
    """End this process with one line for what a user can fix; a defect of ours keeps its traceback."""
    try:
        yield
    except KeyboardInterrupt:
        end_training("interrupted before a checkpoint could be saved; the last one is whole", INTERRUPTED)
    except torch.multiprocessing.ProcessExitedException as error:
        # The process has said itself what was wrong.
        if error.exit_code and error.exit_code > 0:
            raise SystemExit(error.exit_code) from None
        end_training(f"the process of rank {error.error_index} was killed by {error.signal_name}", 1)
    except Exception as error:
        message = explain_training(error, cfg)
        if message is None:
            _report_defect(error)
            raise
        end_training(message)


def explain_training(error: BaseException, cfg: Any) -> str | None:
    """Return one line for what goes wrong in a training without being a defect; None for everything else."""
    text = str(error)
    if is_out_of_memory(error):
        return (
            f"out of memory ({_last_line(text) or type(error).__name__}); lower dataset.max_tokens (now "
            f"{cfg.dataset.max_tokens}) and raise optimization.update_freq as much, lower task.max_sample_size, or set "
            "+model.checkpoint_activations=true"
        )
    if (message := explain(error)) is not None:
        return message
    if isinstance(error, OmegaConfBaseException):
        return f"the configuration is wrong: {' '.join(text.split())}"
    if isinstance(error, pickle.UnpicklingError):
        return (
            "a checkpoint of this run holds more than tensors and plain data, which could run code, and is refused; "
            "ccc-w2v import says which of its parts"
        )
    for pattern, remedy in FAIRSEQ_MESSAGES.items():
        if match := re.search(pattern, text):
            return f"{match[0]}; {remedy}"
    return None


# fairseq's own messages about a user's mistake (they come as bare exceptions, and from data workers inside a
# traceback), and what to do.
FAIRSEQ_MESSAGES = {
    r"sample rate: \d+, need \d+": "ccc-w2v check names the recordings; resample them once",
    r"Failed to load [^\n]+": "the recording is missing or damaged; ccc-w2v check names all of them",
    r"Cannot load model parameters from checkpoint [^;\n]+": (
        "it was trained with other model settings: use those, or set checkpoint.save_dir to another folder"
    ),
    r"(Criterion|Optimizer) does not match": (
        "the last checkpoint was trained with another: use that, set checkpoint.reset_optimizer=true, or set "
        "checkpoint.save_dir to another folder"
    ),
    r"Minimum loss scale reached \([^)\n]*\)": (
        "the loss is not finite in fp16: lower optimization.lr, use common.bf16=true, or look at the data"
    ),
    r"[Ss]entences? lengths? should not exceed max_tokens=\S*": (
        "raise dataset.max_tokens or lower task.max_sample_size"
    ),
}


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1].strip()[:200] if text.strip() else ""


def _report_defect(error: BaseException) -> None:
    """Say in one line, after fairseq's pages of output, which rank of several failed and why."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        import traceback

        traceback.print_exception(error)
        sys.stderr.flush()
        end_training(f"{type(error).__name__}: {_last_line(str(error))}", 1)
