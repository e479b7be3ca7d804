"""Fine-tune a pre-trained model with CTC on transcribed audio: fairseq's own task, model and criterion.

    ccc-w2v finetune --data data --from exp/pretrain --out exp/finetune
    ccc-w2v finetune --data data --from checkpoint_last.pt --out exp/finetune --recipe base --gpus 2

--from is a run of `ccc-w2v pretrain`, or a checkpoint of this project, of fairseq, or of `ccc-w2v import`. An
interrupted run resumes with the same command, or `ccc-w2v resume`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ccc_w2v.cli.options import command_parser
from ccc_w2v.cli.training_options import add_training_options, gpus_here, train


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--from", dest="source", required=True, metavar="RUN", help="pre-training run, or a checkpoint")
    add_training_options(parser, "tiny or base, as in pre-training")
    return parser.parse_intermixed_args()


def main() -> int:
    options = arguments()
    from ccc_w2v.training.launch import PRETRAINED, Run, claim_run, data_of, newest_checkpoint

    source, out = newest_checkpoint(options.source), options.out.resolve()
    from ccc_w2v.checkpoint.plain import export_plain
    from ccc_w2v.checkpoint.read import load_checkpoint

    normalize = bool(load_checkpoint(source)["cfg"]["task"]["normalize"])
    run = Run(
        "finetuning",
        str(out),
        options.recipe,
        data_of(options.data),
        gpus_here() if options.gpus is None else options.gpus,
        (f"model.w2v_path={out / PRETRAINED}", f"task.normalize={str(normalize).lower()}", *options.overrides),
    )
    claim_run(
        run, [source, Path(options.data, "train.tsv"), Path(options.data, "train.ltr")], overwrite=options.overwrite
    )
    if not (out / PRETRAINED).is_file():
        export_plain(source, out / PRETRAINED)
    return train(run, "fine-tuning")
