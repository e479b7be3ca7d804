"""A step of several processes on one machine: each has a batch of its own, and all gradients are added up."""

from __future__ import annotations

import argparse
import socket
import statistics
from typing import Any

import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing

from ccc_w2v.benchmark import measure


def step_seconds(args: argparse.Namespace, processes: int, rounds: int, backend: str = "gloo") -> float:
    """Return the median seconds of an update of so many processes, by their slowest, one thread each.

    ``args`` are those of `step`. With backend nccl all processes use the first GPU; NCCL may refuse that, which raises
    what it says.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    multiprocessing.spawn(_run, (args, processes, rounds, backend, address, results), nprocs=processes)
    return results.get()


def _run(
    rank: int, args: argparse.Namespace, processes: int, rounds: int, backend: str, address: str, results: Any
) -> None:
    # Here, in the process that was started: the modules take seconds to load.
    from ccc_w2v.benchmark.step import Bench

    torch.set_num_threads(1)
    distributed.init_process_group(backend, init_method=address, rank=rank, world_size=processes)
    try:
        bench = Bench(args)
        step = _update(bench)
        taken = measure.interleaved({"update": step}, rounds, bench.device, quiet=rank > 0)["update"]
        slowest = torch.tensor(statistics.median(taken), dtype=torch.float64, device=bench.device)
        distributed.all_reduce(slowest, op=distributed.ReduceOp.MAX)
        if rank == 0:
            results.put(float(slowest))
    finally:
        distributed.destroy_process_group()


def _update(bench: Any) -> Any:
    parameters = [parameter for parameter in bench.model.parameters() if parameter.requires_grad]

    def update() -> None:
        bench.criterion(bench.model, bench.sample)[0].backward()
        # As fairseq's legacy_ddp: one buffer, one all-reduce.
        gradients = [
            parameter.grad if parameter.grad is not None else torch.zeros_like(parameter) for parameter in parameters
        ]
        buffer = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(buffer)
        bench.model.zero_grad()

    return update
