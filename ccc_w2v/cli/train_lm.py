"""Train an n-gram language model on text with KenLM's lmplz, for tools/decode.py --lm.

    python tools/train_lm.py train.txt --order 4 --normalize librispeech --out words.bin     for --lexicon
    python tools/train_lm.py train.txt --order 6 --letters --out letters.arpa                without a lexicon
    python tools/train_lm.py train.txt --order 6 --sentencepiece spm.model --out p.arpa    the same for pieces

lmplz and build_binary are KenLM's programs, which no Python package brings: build them from https://github.com/kpu/kenlm.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ccc_w2v.run_folder import add_overwrite_option


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", nargs="+", type=Path, help="files with a sentence a line, as a .wrd file has them")
    parser.add_argument("--out", required=True, type=Path, help="the model: ARPA where it ends in .arpa, else binary")
    parser.add_argument("--order", type=int, default=4, help="words (or letters) that are looked at together")
    parser.add_argument("--normalize", default="none", help="text rules: none, librispeech or hub5")
    parser.add_argument("--letters", action="store_true", help="a model of letters, | after each word")
    parser.add_argument("--sentencepiece", type=Path, metavar="MODEL", help="a model of the pieces of MODEL")
    parser.add_argument("--prune", type=int, nargs="+", help="per order: drop n-grams seen at most so often")
    parser.add_argument("--memory", default="4G", help="to sort in, as 50M, 4G or 80%%; the rest goes to disk")
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
