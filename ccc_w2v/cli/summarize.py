"""Print what a demo run came to: updates, audio heard, losses beside chance, perplexity, WER, where things are."""

import argparse
import math
import os
from pathlib import Path

from ccc_w2v.errors import InputError, exit_on_input_error
from ccc_w2v.text_files import text_lines
from ccc_w2v.training.log import read_records


@exit_on_input_error
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pretrain", type=Path, required=True, help="folder of the pre-training run, with train.log")
    parser.add_argument("--negatives", type=int, required=True, help="model.num_negatives of the pre-training run")
    parser.add_argument("--score", type=Path, required=True, help="score.json of the held-out prompts")
    parser.add_argument("--lm-score", type=Path, help="score.json of a decoding with a language model, if there is one")
    parser.add_argument("--exported", type=Path, required=True, help="the exported Hugging Face folder")
    arguments = parser.parse_args()
    from ccc_w2v.export.card import read_score

    log = arguments.pretrain / "train.log"
    records = list(read_records(text_lines(log, "training log", "what a training printed"), "train_inner"))
    if not records:
        raise InputError(f"{log}: holds no line of training statistics; run the pre-training with log_format=json")
    score = read_score(arguments.score).numbers
    with_lm = []
    if arguments.lm_score and arguments.lm_score.is_file():
        lm_score = read_score(arguments.lm_score).numbers
        with_lm = [(f"  {name.upper()} with a word LM", _rate(lm_score, name)) for name in ("wer", "cer")]
    first, last = records[0], records[-1]
    chance = math.log2(arguments.negatives + 1)
    rows = [
        ("pre-training updates", f"{last['num_updates']:.0f}"),
        ("audio heard", f"{last['audio_seconds'] / 3600:.2f} h, two views of it"),
        ("contrastive loss", f"{first['loss_contrastive']:.2f} -> {last['loss_contrastive']:.2f} bits"),
        ("  chance", f"{chance:.2f} bits = log2({arguments.negatives} + 1)"),
        ("code perplexity", f"{first['code_perplexity']:.1f} -> {last['code_perplexity']:.1f}"),
        ("held-out WER", _rate(score, "wer")),
        ("held-out CER", _rate(score, "cer")),
        *with_lm,
        ("  measured on", f"{score['utterances']} utterances, {score['wer']['units']} words"),
        ("exported model", os.path.relpath(arguments.exported)),
        ("TensorBoard", f"tensorboard --logdir {os.path.relpath(arguments.pretrain.parent)}"),
    ]
    width = max(len(name) for name, _ in rows)
    print("\n".join(f"{name:<{width}}  {value}" for name, value in rows))
    return 0


def _rate(score: dict, name: str) -> str:
    interval = score[name]["interval"]
    rule = f", {score[name]['interval_rule']}" if "interval_rule" in score[name] else ""
    shown = f" (95 % interval {interval[0]:.1%} to {interval[1]:.1%}{rule})" if interval else ""
    return f"{score[name]['rate']:.1%}{shown}"
