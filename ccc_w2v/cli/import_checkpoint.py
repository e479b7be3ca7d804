"""Import a wav2vec 2.0 from elsewhere as a fairseq checkpoint, for further pre-training or fine-tuning.

    ccc-w2v import my-model --out imported.pt --manifest data/valid.tsv     a transformers folder
    ccc-w2v import ccc_base.pt --out imported.pt                            the original ccc-wav2vec 2.0
    ccc-w2v import wav2vec_small_960h.pt --out imported.pt --dictionary dict.ltr.txt

The format is detected automatically. Files are untrusted: only tensors and plain data are read from them.
"""

from __future__ import annotations

import argparse
import os

from ccc_w2v.cli.options import command_parser
from ccc_w2v.errors import exit_on_input_error


def parse_arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("source", help="a transformers folder, or a fairseq checkpoint (pre-trained or CTC)")
    parser.add_argument("--out", required=True, help="the checkpoint to write")
    parser.add_argument(
        "--audio", nargs="+", default=[], metavar="F", help="recordings to compare a transformers folder's outputs on"
    )
    parser.add_argument("--manifest", metavar="TSV", help="also compare on the first utterances of this manifest")
    parser.add_argument("--dictionary", metavar="TXT", help="dict.ltr.txt for a fine-tuned checkpoint without one")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    return parser.parse_args()


@exit_on_input_error
def main() -> int:
    arguments = parse_arguments()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from ccc_w2v.checkpoint.import_any import import_any
    from ccc_w2v.data.manifest import first_recordings

    imported, difference, written = import_any(
        arguments.source,
        arguments.out,
        sample_audio=[*arguments.audio, *first_recordings(arguments.manifest)],
        dictionary=arguments.dictionary,
        overwrite=arguments.overwrite,
    )
    print(f"{arguments.source}: {imported.kind}")
    if imported.unknown:
        print(f"settings unknown to fairseq, ignored: {', '.join(imported.unknown)}")
    if imported.lacking:
        print(f"missing tensors, zero in the checkpoint: {', '.join(imported.lacking)}")
    for name, value in sorted(imported.plain["ccc_export"]["objective"].items()):
        print(f"  its objective's {name}: {value}")
    if difference is not None:
        print(f"largest difference between transformers and fairseq: {difference.value:.1e}, at {difference.where}")
    for path in written:
        print(f"wrote {path}")
    if "ccc_dictionary" not in imported.plain:
        print(f"continue pre-training with checkpoint.finetune_from_model={arguments.out}, or fine-tune with")
        print(f"model.w2v_path={arguments.out}")
    return 0
