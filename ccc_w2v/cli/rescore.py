"""Rescore n-best lists with a neural language model, of transformers or fairseq, into OUT/hyp.trn and OUT/nbest.jsonl.

ccc-w2v decode --checkpoint ... --manifest ... --out decoded --beam 50 --lexicon words.txt --nbest 20
ccc-w2v rescore --nbest decoded/nbest.jsonl --lm gpt2-folder --weight 0.5 --lower --out rescored
ccc-w2v rescore --nbest decoded/nbest.jsonl --lm lm/checkpoint_best.pt --lm-dict lm/dict.txt --out rescored
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ccc_w2v.cli.options import command_parser
from ccc_w2v.run_folder import add_overwrite_option
from ccc_w2v.sharding import add_shard_option

if TYPE_CHECKING:
    from ccc_w2v.lm.rescore import NBest


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--nbest", required=True, help="nbest.jsonl of ccc-w2v decode")
    parser.add_argument(
        "--lm", required=True, help="folder of a causal model of transformers, or checkpoint of fairseq"
    )
    parser.add_argument("--lm-dict", help="dict.txt of a fairseq model (default: the one beside it)")
    parser.add_argument("--lm-sentencepiece", help="sentencepiece model, if the fairseq model's units are pieces")
    parser.add_argument("--out", required=True, type=Path, help="folder for hyp.trn, nbest.jsonl and ref.trn")
    parser.add_argument(
        "--weight", type=float, default=0.5, help="weight of the LM log-probability added to the search score"
    )
    parser.add_argument("--lower", action="store_true", help="lowercase the texts before the LM scores them")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the model runs")
    add_shard_option(parser)
    add_overwrite_option(parser)
    return parser.parse_args()


def run(options: argparse.Namespace) -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from ccc_w2v.capacity import refuse_missing_gpu
    from ccc_w2v.lm.rescore import claim_rescoring, decided_by, read_nbest, write_rescored

    refuse_missing_gpu(options.device)
    nbest = read_nbest(options.nbest)
    languages = {"lm": options.lm, "lm-dict": options.lm_dict, "lm-sentencepiece": options.lm_sentencepiece}
    decided = decided_by(options.nbest, languages, {"weight": options.weight, "lower": options.lower})
    if options.shard is not None:
        rescore_share(options, nbest, decided)
        return
    output = claim_rescoring(options.out, options.nbest, decided, overwrite=options.overwrite)
    rescored = scored_again(options, nbest)
    write_rescored(output, options.nbest, rescored)
    print(summary(options.out, nbest, rescored))


def rescore_share(options: argparse.Namespace, nbest: NBest, decided: dict[str, Any]) -> None:
    """Rescore the lists of a share, and keep them for the merge."""
    from ccc_w2v.cli.shares import begin_shard, say_done
    from ccc_w2v.decode.transcribe import write_nbest
    from ccc_w2v.run_folder import refuse_input
    from ccc_w2v.sharding import ShardRecord, keep_shard

    shard, out = options.shard, options.out
    refuse_input([out / "nbest.jsonl"], [options.nbest])
    own = shard.take(list(nbest), [1 + sum(len(entry["text"]) for entry in entries) for entries in nbest.values()])
    kept = {"nbest": os.path.abspath(options.nbest)}
    record = ShardRecord("rescore", shard.number, shard.count, len(own), len(nbest), decided, kept)
    folder = begin_shard(out, record, overwrite=options.overwrite)
    write_nbest(folder / "nbest.jsonl", scored_again(options, {utterance: nbest[utterance] for utterance in own}))
    keep_shard(folder, record)
    say_done(out, shard)


def scored_again(options: argparse.Namespace, nbest: NBest) -> NBest:
    """Load the language model and return the lists with its scores, best first."""
    from ccc_w2v.lm.rescore import load_language_model, rescore

    model = load_language_model(options.lm, options.lm_dict, options.lm_sentencepiece)
    model.network.to(options.device)
    return rescore(model, nbest, options.weight, lower=options.lower)


def summary(out: Path, nbest: NBest, rescored: NBest) -> str:
    """Say how many utterances there are, and how many have another text by now."""
    changed = sum(ranked[0]["text"] != nbest[utterance][0]["text"] for utterance, ranked in rescored.items())
    return f"{out / 'hyp.trn'}: {len(rescored)} utterances, {changed} of them with another text than before"


def main() -> int:
    options = arguments()
    from ccc_w2v.errors import exit_on_input_error

    return exit_on_input_error(run)(options)
