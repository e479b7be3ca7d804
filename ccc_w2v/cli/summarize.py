"""Print what a demo run came to, pre-trained beside random weights; write summary.json and summary.svg into its folder.

ccc-w2v summarize exp/prompts/seed1 --negatives 100
"""

import json
import math
import os
from pathlib import Path

from ccc_w2v.cli.options import command_parser, parse_subject
from ccc_w2v.errors import InputError, exit_on_input_error
from ccc_w2v.files import write_whole
from ccc_w2v.report.demo import PRETRAINED, RANDOM, compared, draw, table
from ccc_w2v.text_files import text_lines
from ccc_w2v.training.log import read_records

# Where each row's transcripts lie (hyp.trn, ref.trn), of the random and of the pre-trained model.
ROWS = {
    "frozen features": {RANDOM: "random/probe/test", PRETRAINED: "pretrain/probe/test"},
    "fine-tuned": {RANDOM: "finetune_random/decode", PRETRAINED: "finetune/decode"},
    "fine-tuned, word LM": {RANDOM: "finetune_random/decode_lm", PRETRAINED: "finetune/decode_lm"},
}


@exit_on_input_error
def main() -> int:
    parser = command_parser(__doc__)
    parser.add_argument(
        "run", type=Path, nargs="?", metavar="RUN_DIR", help="folder of the run, e.g. exp/prompts/seed1"
    )
    parser.add_argument("--negatives", type=int, required=True, help="model.num_negatives of the pre-training run")
    arguments = parse_subject(parser, "run", "--run")
    folder, log = arguments.run, arguments.run / "pretrain" / "train.log"
    records = list(read_records(text_lines(log, "training log", "what a training printed"), "train_inner"))
    if not records:
        raise InputError(f"{log}: holds no line of training statistics; run the pre-training with log_format=json")
    first, last = records[0], records[-1]
    results = {
        name: compared(*(folder / path for path in paths.values()))
        for name, paths in ROWS.items()
        if all((folder / path / "hyp.trn").is_file() for path in paths.values())
    }
    summary = {
        "pretraining": {
            "updates": int(last["num_updates"]),
            "hours_heard": last["audio_seconds"] / 3600,
            "loss_contrastive": [first["loss_contrastive"], last["loss_contrastive"]],
            "code_perplexity": [first["code_perplexity"], last["code_perplexity"]],
        },
        "results": results,
        "seconds": _seconds(folder / "seconds.tsv"),
    }
    write_whole(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    if results:
        draw(results, folder / "summary.svg")
    chance = math.log2(arguments.negatives + 1)
    rows = [
        ("pre-training updates", f"{last['num_updates']:.0f}, after those of recipes/prompts/small.pt"),
        ("audio processed", f"{last['audio_seconds'] / 3600:.2f} h, two views of it"),
        ("contrastive loss", f"{first['loss_contrastive']:.2f} -> {last['loss_contrastive']:.2f} bits"),
        ("  chance", f"{chance:.2f} bits = log2({arguments.negatives} + 1)"),
        ("code perplexity", f"{first['code_perplexity']:.1f} -> {last['code_perplexity']:.1f}"),
        ("exported model", os.path.relpath(folder / "huggingface")),
        ("TensorBoard", f"tensorboard --logdir {os.path.relpath(folder)}"),
        ("numbers", os.path.relpath(folder / "summary.json")),
        ("picture", os.path.relpath(folder / "summary.svg")),
    ]
    width = max(len(name) for name, _ in rows)
    print("\n".join(f"{name:<{width}}  {value}" for name, value in rows))
    print(table(results))
    return 0


def _seconds(path: Path) -> dict[str, int]:
    """Return the seconds of each stage, added up over all calls that worked on it."""
    seconds: dict[str, int] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            stage, value = line.split("\t")
            seconds[stage] = seconds.get(stage, 0) + int(value)
    return seconds
