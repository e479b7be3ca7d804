"""When each letter or phone of a transcript is said: forced alignment by a fine-tuned CTC checkpoint or PocketSphinx.

    ccc-w2v align --checkpoint finetune/checkpoint_best.pt --manifest data/dev.tsv --out data/dev.align.tsv
    ccc-w2v align --phones --manifest data/dev.tsv --out data/dev.phones.tsv

With them, criterion.cluster_scope=annotated guides the clusters of a pre-training (task.annotations; docs/family.md).
A row for each label: utterance, label, frames [first, end), seconds, mean log-probability. The labels are those that
the network was fine-tuned on, from <split>.ltr beside the manifest; after a fine-tuning on phones, --labels phn.
With --phones they are those of English, by the acoustic model and the dictionary of PocketSphinx, from the words of
<split>.wrd: no network is needed, and silence is a label, too (SIL). Utterances with other words are left out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ccc_w2v.cli.options import command_parser
from ccc_w2v.errors import InputError, exit_on_input_error
from ccc_w2v.run_folder import Output, add_overwrite_option, beside, claim, content_of, keep_record
from ccc_w2v.sharding import add_shard_option

if TYPE_CHECKING:
    from ccc_w2v.data.alignments import Alignments
    from ccc_w2v.data.manifest import Manifest


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    add = parser.add_argument
    by = parser.add_mutually_exclusive_group(required=True)
    by.add_argument("--checkpoint", help="a fine-tuned (CTC) checkpoint, or a folder of transformers")
    by.add_argument("--phones", action="store_true", help="phones of English by PocketSphinx, of <split>.wrd")
    add("--manifest", required=True, type=Path, help=".tsv of the recordings, with their labels beside it")
    add("--out", required=True, type=Path, help="the .tsv to write")
    add("--labels", help="suffix of the labels beside the manifest (default ltr)")
    add("--labels-dir", help="folder of dict.LABELS.txt, where the checkpoint holds no dictionary")
    add("--pronunciations", type=Path, help="with --phones: further words, a line each: the word, its phones")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where the network runs")
    add_shard_option(parser)
    add_overwrite_option(parser)
    options = parser.parse_args()
    if options.phones and (options.labels or options.labels_dir):
        parser.error("--phones takes the words of .wrd; --labels and --labels-dir belong to --checkpoint")
    if options.phones and options.device != "cpu":
        parser.error("--phones runs on the CPU; --device belongs to --checkpoint")
    if options.pronunciations and not options.phones:
        parser.error("--pronunciations belongs to --phones")
    options.labels = "wrd" if options.phones else options.labels or "ltr"
    return options


@exit_on_input_error
def main() -> None:
    options = arguments()
    from ccc_w2v.cli.shares import lines_of_shard

    if options.out.suffix != ".tsv":
        raise InputError(f"--out {options.out}: expected a name that ends in .tsv")
    with lines_of_shard(options, "align", [f".{options.labels}"]) as own:
        align(own)


def align(options: argparse.Namespace) -> None:
    import logging

    from ccc_w2v.capacity import refuse_missing_gpu
    from ccc_w2v.data.alignments import write_alignments
    from ccc_w2v.data.manifest import read_manifest

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    refuse_missing_gpu(options.device)
    manifest = read_manifest(options.manifest)
    labels = options.manifest.with_suffix(f".{options.labels}")
    settings = {"command": "align", "checkpoint": content_of(options.checkpoint), "labels": options.labels}
    settings |= {"manifest": content_of(options.manifest), "transcripts": content_of(labels)}
    if options.phones:
        settings["pronunciations"] = content_of(options.pronunciations)
    output = Output(options.out, settings, beside(options.out), [options.out], [options.manifest, labels])
    if claim(output, overwrite=options.overwrite) and options.out.is_file():
        print(f"{options.out}: aligned before with the same settings")
        return
    aligned = _by_pocketsphinx(options, manifest) if options.phones else _by_network(options, manifest)
    keep_record(output)
    write_alignments(options.out, aligned)
    print(f"{options.out}: {sum(map(len, aligned.values()))} labels of {len(aligned)} utterances")


def _by_pocketsphinx(options: argparse.Namespace, manifest: Manifest) -> Alignments:
    from ccc_w2v.decode.align_phones import align_phones

    return align_phones(manifest, options.pronunciations)


def _by_network(options: argparse.Namespace, manifest: Manifest) -> Alignments:
    from ccc_w2v.data.manifest import first_recordings
    from ccc_w2v.decode.align import align_manifest
    from ccc_w2v.decode.ctc_model import load_ctc

    model = load_ctc(options.checkpoint, options.labels_dir, sample_audio=first_recordings(options.manifest))
    model.network.to(options.device)
    return align_manifest(model, manifest, options.labels)
