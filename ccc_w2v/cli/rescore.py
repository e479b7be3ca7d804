"""Rescore n-best lists with a neural language model, of transformers or fairseq, into OUT/hyp.trn and OUT/nbest.jsonl.

ccc-w2v decode --checkpoint ... --manifest ... --out decoded --beam 50 --lexicon words.txt --nbest 20
ccc-w2v rescore --nbest decoded/nbest.jsonl --lm gpt2-folder --weight 0.5 --lower --out rescored
ccc-w2v rescore --nbest decoded/nbest.jsonl --lm lm/checkpoint_best.pt --lm-dict lm/dict.txt --out rescored
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ccc_w2v.cli.options import command_parser
from ccc_w2v.run_folder import add_overwrite_option


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
    add_overwrite_option(parser)
    return parser.parse_args()


def run(options: argparse.Namespace) -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from ccc_w2v.capacity import refuse_missing_gpu
    from ccc_w2v.lm.rescore import claim_rescoring, load_language_model, read_nbest, rescore, write_rescored

    refuse_missing_gpu(options.device)
    nbest = read_nbest(options.nbest)
    languages = {"lm": options.lm, "lm-dict": options.lm_dict, "lm-sentencepiece": options.lm_sentencepiece}
    settings = {"weight": options.weight, "lower": options.lower}
    output = claim_rescoring(options.out, options.nbest, languages, settings, overwrite=options.overwrite)
    model = load_language_model(options.lm, options.lm_dict, options.lm_sentencepiece)
    model.network.to(options.device)
    rescored = rescore(model, nbest, options.weight, lower=options.lower)
    changed = sum(ranked[0]["text"] != nbest[utterance][0]["text"] for utterance, ranked in rescored.items())
    write_rescored(output, options.nbest, rescored)
    print(f"{options.out / 'hyp.trn'}: {len(rescored)} utterances, {changed} of them with another text than before")


def main() -> int:
    options = arguments()
    from ccc_w2v.errors import exit_on_input_error

    return exit_on_input_error(run)(options)
