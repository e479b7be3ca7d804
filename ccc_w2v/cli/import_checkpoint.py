"""Import a wav2vec 2.0 from elsewhere as a fairseq checkpoint, to go on pre-training or to fine-tune.

python tools/import.py my-model --out imported.pt --manifest data/valid.tsv     a transformers folder
python tools/import.py ccc_base.pt --out imported.pt                            the original ccc-wav2vec 2.0
python tools/import.py wav2vec_small_960h.pt --out imported.pt --dictionary dict.ltr.txt

What it is, is seen from it. Files are untrusted: only tensors and plain data are read from them.
"""

from __future__ import annotations

import argparse
import os

from ccc_w2v.errors import exit_on_input_error


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a transformers folder, or a fairseq checkpoint (pre-trained or CTC)")
    parser.add_argument("--out", required=True, help="the checkpoint to write")
    parser.add_argument(
        "--audio", nargs="+", default=[], metavar="F", help="recordings to compare a transformers folder's outputs on"
    )
    parser.add_argument("--manifest", metavar="TSV", help="compare on the first utterances of this manifest too")
    parser.add_argument("--dictionary", metavar="TXT", help="dict.ltr.txt of a fine-tuned checkpoint that lacks it")
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
        print(f"settings unknown to fairseq and left out: {', '.join(imported.unknown)}")
    if imported.lacking:
        print(f"tensors that it lacks, zero in the checkpoint: {', '.join(imported.lacking)}")
    for name, value in sorted(imported.plain["ccc_export"]["objective"].items()):
        print(f"  its objective's {name}: {value}")
    if difference is not None:
        print(f"largest difference between transformers and fairseq: {difference.value:.1e}, at {difference.where}")
    for path in written:
        print(f"wrote {path}")
    if "ccc_dictionary" not in imported.plain:
        print(f"go on pre-training with checkpoint.finetune_from_model={arguments.out}, or fine-tune with")
        print(f"model.w2v_path={arguments.out}")
    return 0
