"""Train a sentencepiece model on text or .wrd files, and write its pieces as labels for fine-tuning with fairseq.

    ccc-w2v sentencepiece data/manifests/train_960.wrd --size 1000 --out data/manifests
    ccc-w2v sentencepiece --out data/manifests --name spm1000         labels of later splits

Writes NAME.model, NAME.vocab, dict.NAME.txt and, for every .wrd file in --out, its labels <split>.NAME.
Fine-tune with task.labels=NAME and criterion.post_process=sentencepiece.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ccc_w2v.cli.options import command_parser
from ccc_w2v.errors import InputError, exit_on_input_error


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument(
        "text", nargs="*", type=Path, help="text files with one sentence per line; none if NAME.model exists"
    )
    parser.add_argument("--out", required=True, type=Path, help="folder of the manifests and their .wrd files")
    parser.add_argument("--size", type=int, help="number of pieces, including <unk>, <s> and </s>")
    parser.add_argument("--type", default="unigram", help="unigram or bpe (default: %(default)s)")
    parser.add_argument("--name", help="suffix of the labels (default: spm or bpe, and the size)")
    parser.add_argument("--splits", help="label only these splits, comma-separated: train_100,dev_clean")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing model")
    return parser.parse_args()


@exit_on_input_error
def main() -> None:
    options = arguments()
    if options.text and options.size is None:
        raise InputError("--size is missing: how many pieces to train, 1000 for example")
    if not options.text and options.name is None:
        raise InputError("give a text to train on, or with --name a model that is in --out")
    from ccc_w2v.corpora.subwords import label, train

    name = options.name or f"{'spm' if options.type == 'unigram' else options.type}{options.size}"
    splits = options.splits.replace(" ", "").split(",") if options.splits else None
    word_files = [options.out / f"{split}.wrd" for split in splits] if splits else sorted(options.out.glob("*.wrd"))
    if options.text:
        kind, overwrite = options.type, options.overwrite
        sentences = train(
            options.text, options.out, name=name, size=options.size, kind=kind, to_label=word_files, overwrite=overwrite
        )
        origin = f"{options.size} pieces from {sentences} sentences" if sentences else "is there, from the same text"
        print(f"{options.out / name}.model: {origin}")
    for words in word_files:
        print(label(words, options.out / f"{name}.model"))
