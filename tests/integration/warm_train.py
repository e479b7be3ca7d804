"""fairseq-hydra-train many times for the price of one import: each run is a fork of a process that has imported it.

`python -m tests.integration.warm_train` reads a JSON request from each line of its input and answers with the run's
process id and then its exit code, a line each. Everything from fairseq's cli_main to the interpreter's end is the real
command's; the plugin is imported in the fork.
"""

import importlib
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class WarmTrain:
    """Starts and ends such a process; `start` and `finish`, or `run` for both, make a training run in it."""

    def __init__(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
        command = [sys.executable, "-m", "tests.integration.warm_train"]
        self.process = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, arguments, log, *, cwd=None, environment=None, memory=None, before=None):
        """Begin a run whose output goes to the file ``log``; returns its process id.

        ``memory``: bytes of address space beyond what the imports take. ``before``: module:function to call first.
        """
        request = {"arguments": list(map(str, arguments)), "log": str(log), "cwd": str(cwd or log.parent)}
        request |= {"environment": environment or {}, "memory": memory, "before": before}
        log.write_text("")  # there from the start, for those who wait for something in it
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def finish(self):
        """Wait for the run; returns its exit code, minus the signal's number where one has killed it."""
        return int(self.process.stdout.readline())

    def run(self, arguments, log, **options):
        """Make a run; returns its exit code and its output."""
        self.start(arguments, log, **options)
        return self.finish(), log.read_text()

    def close(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def become(request):
    """Turn this fork into the process that a shell would have started."""
    output = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(request["cwd"])
    os.environ.update(request["environment"])
    sys.argv = ["fairseq-hydra-train", *request["arguments"]]
    if request["memory"]:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + request["memory"]
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
    if request["before"]:
        module, function = request["before"].split(":")
        getattr(importlib.import_module(module), function)()


# Libraries that a training imports by and by, which takes longer than a tiny training.
LIBRARIES = ("scipy.signal", "soundfile", "torch._dynamo", "torch.utils.tensorboard", "torchaudio", "tqdm", "yaml")


def augment_as_on_a_gpu():
    """Let the task believe in a GPU, so that it makes the second views where the model is: on the CPU."""
    importlib.import_module("ccc_w2v.settings.ignored").gpu_here = lambda: True


def start_slowly():
    """Let a training say that it starts, and then take long."""
    from fairseq import tasks

    def setup_task(*_, **__):
        print("starting", flush=True)
        time.sleep(600)

    tasks.setup_task = setup_task


def read_slowly_in_torch():
    """Let each recording that fairseq's own data set reads take a while, inside torch."""
    import torch
    from fairseq.data import FileAudioDataset

    read = FileAudioDataset.__getitem__

    def read_slowly(dataset, index):
        give_up = time.monotonic() + 0.2
        while time.monotonic() < give_up:
            torch.arange(20000).sort()
        return read(dataset, index)

    FileAudioDataset.__getitem__ = read_slowly


def run_out_of_gpu_memory():
    """Let the model's first batch be too large for a GPU."""
    import torch

    def forward(*_, **__):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 79.1 GiB")

    importlib.import_module("ccc_w2v.model").CccWav2Vec2Model.forward = forward


def main():
    from fairseq_cli.hydra_train import cli_main

    for library in LIBRARIES:
        importlib.import_module(library)
    answers = os.fdopen(os.dup(1), "w")
    for line in iter(sys.stdin.readline, ""):
        child = os.fork()
        if child == 0:
            answers.close()
            become(json.loads(line))
            sys.exit(cli_main())
        print(child, file=answers, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)


if __name__ == "__main__":
    main()
