#!/usr/bin/env python3
"""Export a checkpoint to unmodified fairseq (one file) or to transformers (a folder, its outputs compared first).

python tools/export.py --to fairseq --checkpoint checkpoint_best.pt --out plain.pt
python tools/export.py --to huggingface --checkpoint checkpoint_best.pt --out my-model --manifest data/valid.tsv
"""

from __future__ import annotations

import argparse
import os
import sys

from ccc_w2v.errors import exit_on_input_error

MANIFEST_UTTERANCES = 4


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", required=True, choices=["fairseq", "huggingface"], help="the format to write")
    parser.add_argument("--checkpoint", required=True, help="a pre-trained or fine-tuned (CTC) fairseq checkpoint")
    parser.add_argument("--out", required=True, help="the file (fairseq) or folder (huggingface) to write")
    parser.add_argument("--audio", nargs="+", default=[], metavar="F", help="recordings to compare the outputs on")
    parser.add_argument(
        "--manifest", metavar="TSV", help=f"compare on the first {MANIFEST_UTTERANCES} utterances of this manifest too"
    )
    parser.add_argument(
        "--wer", nargs="+", default=[], metavar="JSON", help="scores from tools/score.py for the model card"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    arguments = parser.parse_args()
    if arguments.to == "fairseq" and (arguments.audio or arguments.manifest or arguments.wer):
        parser.error(
            "--audio, --manifest and --wer are for --to huggingface: a plain checkpoint keeps the same tensors"
        )
    return arguments


@exit_on_input_error
def main() -> int:
    arguments = parse_arguments()
    if arguments.to == "fairseq":
        from ccc_w2v.export.plain import export_plain

        for path in export_plain(arguments.checkpoint, arguments.out, overwrite=arguments.overwrite):
            print(f"wrote {path}")
        return 0
    # Nothing that follows needs the network; without this transformers may still ask the Hub.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from ccc_w2v.export.card import read_score
    from ccc_w2v.export.huggingface import export_huggingface

    report = export_huggingface(
        arguments.checkpoint,
        arguments.out,
        [*arguments.audio, *first_utterances(arguments.manifest)],
        scores=[read_score(path) for path in arguments.wer],
        overwrite=arguments.overwrite,
    )
    print(
        f"largest difference from fairseq on {report['recordings']} recording(s): {report['difference']:.1e}, at "
        f"{report['where']}; through the feature extractor: {report['as_used']:.1e}"
    )
    print(f"wrote {arguments.out}")
    return 0


def first_utterances(path: str | None) -> list[str]:
    """Return the audio paths of a manifest's first few utterances."""
    if path is None:
        return []
    from ccc_w2v.data.manifest import read_manifest

    manifest = read_manifest(path)
    return [manifest.audio_path(entry) for entry in manifest.entries[:MANIFEST_UTTERANCES]]


if __name__ == "__main__":
    sys.exit(main())
