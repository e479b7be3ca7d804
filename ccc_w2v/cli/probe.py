r"""Probe a checkpoint: a small CTC head on its frozen features; CER and WER with intervals, weights of the layers.

    ccc-w2v probe --checkpoint pretrain/checkpoint_last.pt --train data/small/train_1h.tsv \
        --dev data/small/dev.tsv --test data/small/test.tsv --out probe

--checkpoint is a pre-trained or fine-tuned one, of ours or of fairseq. Without --test, dev is measured. Features are
computed once and kept in OUT/features (--cache names another folder, which several probes may share). Every test gets
hyp.trn and ref.trn in OUT/<name>, for ccc-w2v compare; the numbers are in OUT/probe.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ccc_w2v.cli.options import command_parser
from ccc_w2v.errors import InputError, exit_on_input_error
from ccc_w2v.run_folder import add_overwrite_option


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("--checkpoint", required=True, help="a pre-trained or fine-tuned checkpoint")
    add("--train", required=True, help=".tsv manifest to train on, with .wrd and dict.ltr.txt beside it")
    add("--dev", required=True, help=".tsv manifest, with .wrd, by which the best moment is chosen")
    add("--test", nargs="+", default=[], help=".tsv manifests, with .wrd, to measure on (default: dev)")
    add("--out", required=True, type=Path, help="folder for probe.json and transcripts")
    add("--head", choices=("linear", "lstm"), default="lstm", help="a BiLSTM before the letters, or not (default lstm)")
    add("--updates", type=int, help="the most updates (default 1500)")
    add("--patience", type=int, help="looks at dev, every 50 updates, without improvement before it stops (default 8)")
    add("--learning-rate", type=float, help="of the head (default 0.003)")
    add("--seed", type=int, help="of the head, the order and the dropout (default 1)")
    add("--cache", type=Path, help="folder of features, by content (default OUT/features)")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where network and head run")
    add_overwrite_option(parser)
    return parser.parse_args()


@exit_on_input_error
def main() -> None:
    options = arguments()
    tests = {Path(path).stem: path for path in options.test or [options.dev]}
    if len(tests) < len(options.test):
        raise InputError("--test: two manifests have the same name, by which results are kept; rename one")
    from ccc_w2v.capacity import refuse_missing_gpu
    from ccc_w2v.probe.ctc_head import ProbeSettings
    from ccc_w2v.probe.run_probe import run_probe
    from ccc_w2v.score.error_rate import ErrorRate, heading, row_text

    refuse_missing_gpu(options.device)
    chosen = {name: getattr(options, name) for name in ("head", "updates", "patience", "learning_rate", "seed")}
    settings = ProbeSettings(**{name: value for name, value in chosen.items() if value is not None})
    result = run_probe(
        options.checkpoint,
        options.train,
        options.dev,
        tests,
        options.out,
        settings,
        cache=options.cache,
        device=options.device,
        overwrite=options.overwrite,
    )
    print(heading())
    for name, measured in result["tests"].items():
        for unit in ("cer", "wer"):
            print(row_text(f"{name} {unit.upper()}", ErrorRate.from_dict(measured[unit])))
    print("layer weights (0 enters the Transformer):", " ".join(f"{w:.2f}" for w in result["layer_weights"]))
    print(f"as it was after update {result['best_update']}; {result['seconds']['all']} s")
