"""fairseq-hydra-train that also writes a hash of its parameters and optimiser after each update, a file for each rank.

`python -m tests.integration.observed_train [fairseq-hydra-train's arguments]` with the folder in $OBSERVED. With
HOLD=RANK:UPDATE that rank waits after that update until a file "go" is in the folder. PRETENDED_GPUS=N lets fairseq
spawn N processes, which run on CPU cores and write no hashes. A process that destroys its process group leaves a file.
"""

import hashlib
import os
import time
from pathlib import Path

import torch
import torch.distributed
from fairseq_cli import train
from fairseq_cli.hydra_train import cli_main

destroy = torch.distributed.destroy_process_group


def destroy_process_group(*args, **kwargs):
    """Destroy the group and leave $OBSERVED/destroyed.PID."""
    destroy(*args, **kwargs)
    (Path(os.environ["OBSERVED"]) / f"destroyed.{os.getpid()}").touch()


# Here, for spawned processes import this file and do not run it.
torch.distributed.destroy_process_group = destroy_process_group


def observe(trainer):
    """Append "update hash" to $OBSERVED/rankN.txt."""
    state = hashlib.sha256()
    for parameter in trainer.model.parameters():
        state.update(parameter.detach().numpy().tobytes())
        for value in trainer.optimizer.optimizer.state[parameter].values():
            state.update(torch.as_tensor(value).numpy().tobytes())
    folder, rank, update = Path(os.environ["OBSERVED"]), trainer.data_parallel_rank, trainer.get_num_updates()
    with open(folder / f"rank{rank}.txt", "a") as file:
        file.write(f"{update} {state.hexdigest()}\n")
    while os.environ.get("HOLD") == f"{rank}:{update}" and not (folder / "go").exists():
        time.sleep(0.02)


def main():
    proceed = train.validate_and_save

    def validate_and_save(cfg, trainer, *args, **kwargs):
        observe(trainer)
        return proceed(cfg, trainer, *args, **kwargs)

    train.validate_and_save = validate_and_save
    if gpus := int(os.environ.get("PRETENDED_GPUS", 0)):
        torch.cuda.device_count = lambda: gpus
    cli_main()


if __name__ == "__main__":
    main()
