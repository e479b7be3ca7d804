"""Spread a recipe over your GPUs: max_tokens, update_freq, learning rate, warm-up, hours processed, time, disk.

    ccc-w2v plan recipes/librispeech/config/pretraining/ccc_base_960h.yaml --gpus 8 --memory 80
    ccc-w2v plan recipes/librispeech/config/pretraining/ccc_base_960h.yaml --gpus 1,8,64 --memory 32
    ccc-w2v plan recipes/prompts/config/pretrain.yaml --measure            # 20 updates here: time, GPU memory

Words after the configuration override it, as for fairseq-hydra-train. --memory defaults to this machine's GPU memory;
without a GPU, max_tokens stays the configuration's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ccc_w2v.cli.options import command_parser


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("config", type=Path, help="a recipe's YAML")
    add("overrides", nargs="*", default=[], metavar="KEY=VALUE", help="overrides, as for fairseq-hydra-train")
    add(
        "--gpus",
        default="1",
        help="number of GPUs; several (1,8,64) are shown side by side, and --out writes the first",
    )
    add("--memory", type=float, help="memory of each GPU [GiB]")
    add("--batch-seconds", type=float, help="audio per update over all GPUs [s]; default: the recipe's")
    add("--updates", type=int, help="length of the run; default: the recipe's")
    add("--max-tokens", type=int, help="samples in one GPU's batch, in place of the estimate")
    add("--measure", action="store_true", help="train 20 updates on this machine for time and memory")
    add("--manifest", help="training audio (.tsv): how full its batches are; also what --measure trains on")
    add("--step-seconds", type=float, help="time per batch from an earlier --measure [s]")
    add("--out", type=Path, help="write the plan as YAML, for <config-dir>/plan/NAME.yaml and +plan=NAME")
    add("--overwrite", action="store_true", help="replace another plan at --out")
    add("--print-overrides", action="store_true", help="print only the overrides, one per line, and the rest to stderr")
    return parser.parse_intermixed_args()


def main() -> int:
    options = arguments()
    from ccc_w2v.errors import exit_on_input_error

    return exit_on_input_error(run)(options)


def write_plan(options: argparse.Namespace, text: str) -> None:
    """Write --out, unless it is the recipe or another plan."""
    from ccc_w2v.errors import InputError
    from ccc_w2v.files import write_whole
    from ccc_w2v.run_folder import refuse_input

    refuse_input([options.out], [options.config])
    if options.out.exists() and not options.overwrite and options.out.read_bytes() != text.encode():
        raise InputError(f"{options.out}: is another plan; name another output, or give --overwrite")
    write_whole(options.out, text)


def run(options: argparse.Namespace) -> None:
    from ccc_w2v.checkpoint.read import load_untrusted
    from ccc_w2v.errors import InputError
    from ccc_w2v.planning.plan import make_plan, with_batches
    from ccc_w2v.planning.recipe import filled_share, missing_settings, read_recipe
    from ccc_w2v.planning.table import command, overlay, table
    from ccc_w2v.planning.trial import gpu_memory, measure

    try:
        counts = [int(word) for word in options.gpus.split(",")]
    except ValueError:
        raise InputError(f"--gpus {options.gpus}: expected whole numbers separated by commas") from None
    recipe = read_recipe(options.config, options.overrides, load_untrusted, options.manifest)
    trial, step = None, options.step_seconds

    def plans() -> list:
        return [
            make_plan(
                recipe,
                count,
                memory=gpu_memory() if options.memory is None else options.memory,
                batch_seconds=options.batch_seconds,
                max_tokens=options.max_tokens,
                updates=options.updates,
                step_seconds=step,
            )
            for count in dict.fromkeys(counts)
        ]

    candidates = plans()
    if options.measure:
        trial = measure(options.config, recipe, candidates[0].max_tokens, options.overrides, options.manifest)
        step = trial.step_seconds
        candidates = plans()
    if options.manifest:
        own, *shares = (
            filled_share(options.manifest, recipe, tokens)
            for tokens in (recipe.max_tokens, *(plan.max_tokens for plan in candidates))
        )
        candidates = [with_batches(plan, share, own) for plan, share in zip(candidates, shares, strict=True)]
    print(table(candidates, trial), file=sys.stderr if options.print_overrides else sys.stdout)
    if options.out:
        write_plan(options, overlay(candidates[0]))
    if options.print_overrides:
        print("\n".join(candidates[0].overrides()))
    else:
        missing = missing_settings(options.config, options.overrides)
        print(f"\n{command(options.config, candidates[0], options.overrides, missing, options.manifest)}")
