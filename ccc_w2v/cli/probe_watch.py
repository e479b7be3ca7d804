"""Probe each new checkpoint of a run while it trains: CER and WER in RUN_DIR/probes.jsonl and in its TensorBoard.

    ccc-w2v probe-watch exp/run1 --train data/small/train_10m.tsv --dev data/small/dev.tsv

It runs beside the training, at the lowest priority, on the CPU or on another device (--device), and only reads what the
training writes: it may be stopped and started at any time. It ends after the probe of the last checkpoint where --once
is given, else when it is stopped. How a probe is made: `ccc-w2v probe --help`.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ccc_w2v.cli.options import command_parser
from ccc_w2v.errors import InputError, exit_on_input_error


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN_DIR", help="folder of a training run, with its checkpoints")
    add("--train", required=True, help=".tsv manifest to train on, with .wrd and dict.ltr.txt beside it")
    add("--dev", required=True, help=".tsv manifest, with .wrd, by which the best moment is chosen")
    add("--test", nargs="+", default=[], help=".tsv manifests, with .wrd, to measure on (default: dev)")
    add("--head", choices=("linear", "lstm"), default="linear", help="letters from each frame, or over a BiLSTM")
    add("--updates", type=int, default=1500, help="the most updates of a probe (default 1500)")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where network and head run")
    add("--tensorboard", type=Path, help="TensorBoard folder of the run (default: RUN_DIR/tensorboard if it is there)")
    add("--every", type=float, default=60.0, help="seconds between two looks (default 60)")
    add("--once", action="store_true", help="probe the checkpoints that are there, and end")
    return parser.parse_args()


@exit_on_input_error
def main() -> None:
    options = arguments()
    tests = {Path(path).stem: path for path in options.test or [options.dev]}
    if len(tests) < len(options.test):
        raise InputError("--test: two manifests have the same name, by which results are kept; rename one")
    import logging
    import time

    from ccc_w2v.capacity import refuse_missing_gpu
    from ccc_w2v.probe.ctc_head import ProbeSettings
    from ccc_w2v.probe.watch import RESULTS, Watch, alone_in, watch_until

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("ccc_w2v.probe.watch").setLevel(logging.INFO)
    refuse_missing_gpu(options.device)
    tensorboard = options.tensorboard or options.run / "tensorboard"
    settings = ProbeSettings(head=options.head, updates=options.updates)
    shown = tensorboard if options.tensorboard or tensorboard.is_dir() else None
    watch = Watch(options.run, options.train, options.dev, tests, settings, options.device, shown)
    os.nice(19)  # the training comes first
    with alone_in(options.run):
        watch_until(watch, lambda: options.once, options.every, time.sleep)
    print(options.run / RESULTS)
