"""Export a checkpoint to unmodified fairseq (one file), to transformers (a folder) or to ONNX (one file).

    ccc-w2v export --to fairseq --checkpoint checkpoint_best.pt --out plain.pt
    ccc-w2v export --to huggingface --checkpoint checkpoint_best.pt --out my-model --manifest data/valid.tsv
    ccc-w2v export --to onnx --checkpoint checkpoint_best.pt --out model.onnx --manifest data/test.tsv --int8

The last two compare their outputs with fairseq's and write nothing if they differ.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ccc_w2v.cli.options import add_old_spelling, command_parser
from ccc_w2v.errors import exit_on_input_error


def parse_arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    add, both, card = parser.add_argument, parser.add_argument_group("comparison"), parser.add_argument_group("card")
    add("--to", required=True, choices=["fairseq", "huggingface", "onnx"], help="the format to write")
    add("--checkpoint", required=True, help="a pre-trained or fine-tuned (CTC) fairseq checkpoint")
    add("--out", required=True, help="the file (fairseq, onnx) or folder (huggingface) to write")
    add("--overwrite", action="store_true", help="replace what is there")
    add("--sentencepiece", metavar="MODEL", help="sentencepiece .model of the labels, if they are pieces")
    add("--push", metavar="USER/NAME", help="upload the folder to this repository of the Hub; a new one is private")
    add(
        "--weights",
        choices=("model", "teacher"),
        default="model",
        help="teacher: the moving average that masked prediction (capi, delta) has trained with, in place of the model "
        "that every other command takes (default: model)",
    )
    add("--half", action="store_true", help="fairseq: weights in float16, for half the size")
    add("--int8", action="store_true", help="onnx: int8 weights; prints WER on --manifest with fp32 and int8 weights")
    both.add_argument("--audio", nargs="+", default=[], metavar="F", help="recordings to compare the outputs on")
    both.add_argument("--manifest", metavar="TSV", help="also compare on the first utterances of this manifest")
    card.add_argument("--wer", nargs="+", default=[], metavar="JSON", help="scores from ccc-w2v score")
    card.add_argument("--training-data", metavar="TEXT", help="description of the training data")
    card.add_argument("--recipe", metavar="TEXT", help="name or URL of the recipe")
    card.add_argument("--licence", metavar="ID", help="licence of the weights, as the Hub's identifier (cc-by-4.0)")
    add_old_spelling(parser, "--data", "training_data")
    arguments = parser.parse_args()
    hugging = {
        name: getattr(arguments, name)
        for name in ("wer", "training_data", "recipe", "licence", "push", "sentencepiece")
    }
    if arguments.to != "huggingface" and any(hugging.values()):
        parser.error(f"--{', --'.join(hugging).replace('_', '-')} are for --to huggingface")
    if arguments.to == "fairseq" and (arguments.audio or arguments.manifest):
        parser.error("--audio and --manifest compare outputs: a plain checkpoint keeps the same tensors")
    if arguments.weights == "teacher" and arguments.to == "onnx":
        parser.error("--weights teacher: onnx takes a fine-tuned checkpoint, which has no teacher")
    if arguments.half and arguments.to != "fairseq":
        parser.error("--half is for --to fairseq")
    if arguments.int8 and (arguments.to != "onnx" or not arguments.manifest):
        parser.error("--int8 is for --to onnx, with a --manifest that has a .wrd beside it")
    return arguments


@exit_on_input_error
def main() -> int:
    arguments = parse_arguments()
    if not arguments.push:  # Nothing else needs the network; without this transformers may still ask the Hub.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from ccc_w2v.data.manifest import first_recordings

    source, out, overwrite = arguments.checkpoint, arguments.out, arguments.overwrite
    audio = [*arguments.audio, *first_recordings(arguments.manifest)]
    if arguments.to == "fairseq":
        from ccc_w2v.checkpoint.plain import export_plain

        weights = arguments.weights
        for path in export_plain(source, out, overwrite=overwrite, half=arguments.half, weights=weights):
            print(f"wrote {path}")
        return 0
    if arguments.to == "onnx":
        from ccc_w2v.export.onnx_wer import export_measured

        print(export_measured(source, out, audio, arguments.manifest, int8=arguments.int8, overwrite=overwrite))
        return 0
    from ccc_w2v.export import card, hub
    from ccc_w2v.export.huggingface import export_huggingface
    from ccc_w2v.training.health.history import folder_of_run
    from ccc_w2v.training.run_record import summary

    if arguments.push:
        hub.check_repository(arguments.push)
    scores = [card.read_score(path) for path in arguments.wer]
    run = summary(folder_of_run(Path(source).parent))
    notes = card.Notes(arguments.push, arguments.training_data, arguments.recipe, arguments.licence, scores, run)
    report = export_huggingface(
        source,
        out,
        audio,
        notes=notes,
        sentencepiece=arguments.sentencepiece,
        overwrite=overwrite,
        weights=arguments.weights,
    )
    print(
        f"largest difference from fairseq on {report['recordings']} recording(s): {report['difference']:.1e}, at "
        f"{report['where']}; through the feature extractor: {report['as_used']:.1e}\nwrote {out}"
    )
    if arguments.push:
        print(f"pushed {hub.push(out, arguments.push)}")
    return 0
