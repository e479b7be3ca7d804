"""What a long pre-training asks of disk, cores, memory and money: products of rates, nothing is run.

    ccc-w2v plan-data --hours 60000 --gpus 64 --price 2
    ccc-w2v plan-data --hours 960 --gpus 8 --updates 400000 --update-hours 1.6 --parameters 95e6 --gpu-rate 120

The rates are wav2vec 2.0's published one of LARGE on V100, halved for two views, and this package's own from
docs/benchmarks.md; put in yours. `ccc-w2v plan` spreads a recipe over GPUs.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, fields

from ccc_w2v.cli.options import command_parser
from ccc_w2v.errors import InputError, exit_on_input_error

HELP = {
    "hours": "hours of the corpus",
    "gpus": "GPUs",
    "gpus_per_node": "GPUs of each machine",
    "updates": "updates",
    "update_hours": "hours of audio in an update",
    "gpu_rate": "hours of audio that a GPU processes in an hour",
    "core_rate": "hours that a core decodes and augments in an hour",
    "kb_per_second": "kB of a second of audio on disk",
    "read_seconds": "seconds of an utterance as it is read",
    "crop_seconds": "seconds of it that are used",
    "workers_per_gpu": "data workers of each GPU",
    "shuffled": "utterances in each worker's shuffle buffer",
    "parameters": "parameters of the network",
    "save_updates": "updates between checkpoints",
    "storage_gb_per_second": "GB/s at which a checkpoint is written",
    "price": "price of a GPU for an hour",
}


def arguments() -> argparse.Namespace:
    from ccc_w2v.planning.data_plan import Workload

    parser = command_parser(__doc__)
    for field in fields(Workload):
        kind = int if isinstance(field.default, int) else float
        shown = f"{HELP[field.name]} (default: {field.default:.6g})"
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default, help=shown)
    parser.add_argument("--json", action="store_true", help="print the workload and the plan as JSON")
    return parser.parse_args()


@exit_on_input_error
def main() -> None:
    from ccc_w2v.planning.data_plan import Workload, data_plan, data_table

    options = arguments()
    work = Workload(**{name: vars(options)[name] for name in HELP})
    for name, value in asdict(work).items():
        if value < 0 or (value == 0 and name not in ("price", "shuffled", "workers_per_gpu")):
            raise InputError(f"--{name.replace('_', '-')} {value:g}: expected a positive number")
    plan = data_plan(work)
    print(json.dumps({"workload": asdict(work), "plan": asdict(plan)}) if options.json else data_table(work, plan))
