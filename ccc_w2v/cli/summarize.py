"""Print what a demo run came to, pre-trained beside random weights, and write summary.json into its folder.

Example: ccc-w2v summarize --run exp/prompts/seed1 --negatives 100
"""

import argparse
import json
import math
import os
from pathlib import Path
from typing import Any

from ccc_w2v.errors import InputError, exit_on_input_error
from ccc_w2v.files import write_whole
from ccc_w2v.text_files import text_lines
from ccc_w2v.training.log import read_records

RANDOM, PRETRAINED = "from random weights", "after pre-training"
# Where each row's transcripts lie (hyp.trn, ref.trn), of the random and of the pre-trained model.
ROWS = {
    "frozen features": {RANDOM: "random/probe/test", PRETRAINED: "pretrain/probe/test"},
    "fine-tuned": {RANDOM: "finetune_random/decode", PRETRAINED: "finetune/decode"},
    "fine-tuned, word LM": {RANDOM: "finetune_random/decode_lm", PRETRAINED: "finetune/decode_lm"},
}
RATES = {"cer": "char", "wer": "word"}


@exit_on_input_error
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of the run, e.g. exp/prompts/seed1")
    parser.add_argument("--negatives", type=int, required=True, help="model.num_negatives of the pre-training run")
    arguments = parser.parse_args()
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
    chance = math.log2(arguments.negatives + 1)
    rows = [
        ("pre-training updates", f"{last['num_updates']:.0f}, after those of recipes/prompts/small.pt"),
        ("audio heard", f"{last['audio_seconds'] / 3600:.2f} h, two views of it"),
        ("contrastive loss", f"{first['loss_contrastive']:.2f} -> {last['loss_contrastive']:.2f} bits"),
        ("  chance", f"{chance:.2f} bits = log2({arguments.negatives} + 1)"),
        ("code perplexity", f"{first['code_perplexity']:.1f} -> {last['code_perplexity']:.1f}"),
        ("exported model", os.path.relpath(folder / "huggingface")),
        ("TensorBoard", f"tensorboard --logdir {os.path.relpath(folder)}"),
        ("numbers", os.path.relpath(folder / "summary.json")),
    ]
    width = max(len(name) for name, _ in rows)
    print("\n".join(f"{name:<{width}}  {value}" for name, value in rows))
    print(table(results))
    return 0


def table(results: dict[str, Any]) -> str:
    """Lay the error rates out: a row for each system and rate, random and pre-trained beside each other."""
    lines = [f"\n{'held-out prompts':<26}" + "".join(f"{name:>25}" for name in (RANDOM, PRETRAINED, "difference"))]
    for system, row in results.items():
        for rate in RATES:
            values = row[rate]
            cells = [_with_interval(values[name]) for name in (RANDOM, PRETRAINED)]
            cells.append(_with_interval(values["difference"], signed=True) if values["difference"] else "-")
            lines.append(f"{rate.upper() + ', ' + system:<26}" + "".join(f"{cell:>25}" for cell in cells))
    for row in list(results.values())[:1]:
        lines.append(
            f"{row['utterances']} utterances, {row['words']} words; brackets: 95 % bootstrap interval; difference: "
            "pre-trained minus random on the same utterances"
        )
    return "\n".join(lines)


def compared(random: Path, pretrained: Path) -> dict[str, Any]:
    """Return both folders' rates of words and letters with intervals, and their paired difference.

    Each folder holds hyp.trn and ref.trn of the same utterances.
    """
    from ccc_w2v.data.randomness import generator_for
    from ccc_w2v.score.bootstrap import paired_bootstrap
    from ccc_w2v.score.scorecard import measure, read_texts
    from ccc_w2v.score.wer import score

    folders = {RANDOM: random, PRETRAINED: pretrained}
    references = read_texts(pretrained / "ref.trn", "none")
    measured = {name: measure(path / "ref.trn", path / "hyp.trn") for name, path in folders.items()}
    row: dict[str, Any] = {"utterances": len(references)}
    for rate, unit in RATES.items():
        row[rate] = {name: {key: measured[name][rate][key] for key in ("rate", "interval")} for name in folders}
        scores = [score(references, read_texts(folders[name] / "hyp.trn", "none"), unit) for name in folders]
        of_random, of_pretrained = ([counts.errors for counts in scored.utterances.values()] for scored in scores)
        units = [counts.words for counts in scores[0].utterances.values()]
        generator = generator_for(0, f"bootstrap {unit}")
        difference = paired_bootstrap(of_pretrained, of_random, units, generator=generator)
        row[rate]["difference"] = difference and {
            "rate": difference.value,
            "interval": list(difference.interval),
            "p": difference.p,
        }
        row[f"{unit}s"] = sum(units)
    return row


def _with_interval(value: dict[str, Any], signed: bool = False) -> str:
    sign = "+" if signed else ""
    interval = value["interval"]
    shown = f" ({interval[0]:{sign}.1%} to {interval[1]:{sign}.1%})" if interval else ""
    return f"{value['rate']:{sign}.1%}{shown}"


def _seconds(path: Path) -> dict[str, int]:
    """Return the seconds of each stage, added up over all calls that worked on it."""
    seconds: dict[str, int] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            stage, value = line.split("\t")
            seconds[stage] = seconds.get(stage, 0) + int(value)
    return seconds
