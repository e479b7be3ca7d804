"""Hydra imports this before fairseq-hydra-train composes its configuration; in other programs it does nothing.

fairseq imports a plugin only after it has made the run's folder, counted GPUs and started processes. Mistakes that show
up earlier would end in a traceback, and a fine-tuning started without common.user_dir could not be resumed: torch would
refuse the dictionary in its checkpoint. Nothing of ccc_w2v is imported before the configuration says which copy to use.
"""

from __future__ import annotations

import errno
import functools
import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import Any

OWN = {"task": {"ccc_pretraining"}, "model": {"ccc_wav2vec2"}, "criterion": {"ccc"}}
FAIRSEQ_TASKS = {"audio_pretraining", "audio_finetuning"}
NOT_WRITABLE = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOENT, errno.ENOTDIR, errno.EEXIST),
}


def wrap_training() -> None:
    """Wrap fairseq's start of a training; harmless when called again."""
    from fairseq.distributed import utils as distributed
    from hydra._internal.hydra import Hydra
    from hydra.errors import CompactHydraException

    if hasattr(distributed.call_main, "__wrapped__"):
        return
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupted)
    run, compose, call_main = Hydra.run, Hydra.compose_config, distributed.call_main
    reached = []  # the training itself: what it raises from there on is not ours to judge here
    profiled = []  # a run of ours with common.profile: see training/trace.py

    @functools.wraps(call_main)
    def start(cfg: Any, main: Any, **kwargs: Any) -> Any:
        reached.append(cfg)
        if signal.getsignal(signal.SIGINT) is interrupted:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if not uses_plugin(cfg):
            return call_main(cfg, main, **kwargs)
        from fairseq.utils import import_user_module

        cfg.common.profile = bool(profiled)
        import_user_module(cfg.common)
        from ccc_w2v.training.start import start_training

        return start_training(call_main, cfg, main, **kwargs)

    def without_nvtx(training: Any, cfg: Any) -> Any:
        # fairseq would turn on markers for NVIDIA's tools, which fails without a GPU and excludes any other profiler.
        if cfg.common.profile and uses_plugin(cfg):
            profiled.append(cfg)
            cfg.common.profile = False
        return training(cfg)

    @functools.wraps(run)
    def run_with_folder(*args: Any, **kwargs: Any) -> Any:
        if "task_function" in kwargs:
            kwargs["task_function"] = functools.partial(without_nvtx, kwargs["task_function"])
        try:
            return run(*args, **kwargs)
        except OSError as error:
            if reached or error.errno not in NOT_WRITABLE:
                raise
            fail(f"{error.filename}: cannot be written ({error.strerror}); set hydra.run.dir to a folder that can be")

    @functools.wraps(compose)
    def compose_config(self: Any, config_name: str | None, *args: Any, **kwargs: Any) -> Any:
        # fairseq has stored a schema by the same name, so that hydra finds one whatever the name is.
        sources = [source for source in self.config_loader.get_sources() if source.scheme() != "structured"]
        if config_name and not any(source.is_config(config_name) for source in sources):
            folders = [source.path for source in sources if source.scheme() == "file" and source.provider != "ccc_w2v"]
            fail(f"no {config_name}.yaml in {' or '.join(folders) or 'fairseq'}; check --config-dir and --config-name")
        try:
            return compose(self, config_name, *args, **kwargs)
        except CompactHydraException as error:
            fail(" ".join(f"{error} {error.__cause__ or ''}".split()))

    Hydra.run, Hydra.compose_config, distributed.call_main = run_with_folder, compose_config, start


def uses_plugin(cfg: Any) -> bool:
    """Tell whether a run is this plugin's, and complete common.user_dir where it is not set."""
    if cfg.common.user_dir:
        return named_plugin(cfg)
    names = {part: getattr(cfg.get(part), "_name", cfg.get(part)) for part in OWN}
    ours = names["task"] in FAIRSEQ_TASKS or any(names[part] in OWN[part] for part in OWN)
    spec = importlib.util.find_spec("ccc_w2v")
    if not ours or spec is None or not spec.submodule_search_locations:
        return False
    cfg.common.user_dir = str(next(iter(spec.submodule_search_locations)))
    return True


def named_plugin(cfg: Any) -> bool:
    """Resolve common.user_dir against the folder of the command, for hydra has changed the working directory."""
    from hydra.utils import get_original_cwd

    folder = Path(os.path.normpath(os.path.join(get_original_cwd(), cfg.common.user_dir)))
    if folder.name != "ccc_w2v":
        return False
    if (folder / "__init__.py").is_file():
        cfg.common.user_dir = str(folder)
    elif not os.path.exists(os.path.abspath(cfg.common.user_dir)):
        fail(
            f"common.user_dir={cfg.common.user_dir}: no such folder ({folder}); leave it out, or use the folder that "
            "python -m ccc_w2v prints"
        )
    return True


def interrupted(number: int, frame: Any) -> None:
    """End the process at Ctrl-C while the configuration is read."""
    print("\ninterrupted before the training began", file=sys.stderr, flush=True)
    raise SystemExit(128 + number)


def fail(message: str) -> None:
    """End the process with one line and exit code 2."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    raise SystemExit(2)


# `python -m fairseq_cli.hydra_train` runs the module under another name, but imports fairseq_cli.train as well.
if "fairseq_cli.train" in sys.modules:
    wrap_training()
