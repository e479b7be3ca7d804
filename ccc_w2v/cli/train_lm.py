"""Train an n-gram language model on text with KenLM's lmplz, for ccc-w2v decode --lm.

    ccc-w2v train-lm train.txt --order 4 --normalize librispeech --out words.bin     for --lexicon
    ccc-w2v train-lm train.txt --order 6 --letters --out letters.arpa                without a lexicon
    ccc-w2v train-lm train.txt --order 6 --sentencepiece spm.model --out p.arpa    the same for pieces

lmplz and build_binary are KenLM's programs, which no Python package contains: build them from https://github.com/kpu/kenlm.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ccc_w2v.cli.options import command_parser
from ccc_w2v.run_folder import add_overwrite_option


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("text", nargs="+", type=Path, help="text files with one sentence per line, such as .wrd files")
    parser.add_argument(
        "--out", required=True, type=Path, help="model to write: ARPA if it ends in .arpa, else KenLM's binary"
    )
    parser.add_argument("--order", type=int, default=4, help="order of the n-grams")
    parser.add_argument("--normalize", default="none", help="text normalisation: none, librispeech or hub5")
    parser.add_argument("--letters", action="store_true", help="letters as units, | after each word")
    parser.add_argument(
        "--sentencepiece", type=Path, metavar="MODEL", help="pieces of this sentencepiece model as units"
    )
    parser.add_argument("--prune", type=int, nargs="+", help="per order: prune n-grams with count <= N")
    parser.add_argument("--memory", default="4G", help="memory for sorting, as 50M, 4G or 80%%; the rest goes to disk")
    add_overwrite_option(parser)
    return parser.parse_args()


def main() -> int:
    options = arguments()
    from ccc_w2v.errors import exit_on_input_error
    from ccc_w2v.lm.ngram import train_ngram

    @exit_on_input_error
    def run() -> None:
        sentences = train_ngram(
            options.text,
            options.out,
            order=options.order,
            rules=options.normalize,
            letters=options.letters,
            sentencepiece=options.sentencepiece,
            prune=options.prune,
            memory=options.memory,
            overwrite=options.overwrite,
        )
        if sentences is None:
            print(f"{options.out}: made before from the same text and settings")
            return
        print(f"{options.out}: {options.order}-grams of {sentences} sentences, normalisation {options.normalize}")

    return run()
