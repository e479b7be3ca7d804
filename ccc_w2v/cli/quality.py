r"""What the layers and codes of a checkpoint know of phones, without training: ABX error, purity, PNMI; table and plot.

    ccc-w2v align --checkpoint finetune/checkpoint_best.pt --manifest data/dev.tsv --out data/dev.align.tsv
    ccc-w2v quality --checkpoint pretrain/checkpoint_last.pt --manifest data/dev.tsv \
        --alignments data/dev.align.tsv --out quality

OUT/quality.json has the numbers, OUT/quality.png the curves over the layers. Phones are what the alignments hold:
where there is no phone dictionary, letters stand for phones. Purity and PNMI of a layer are those of k-means units of
its frames (HuBERT, arXiv 2106.07447). ABX needs fastabx (Python 3.12 and newer: pip install 'ccc-w2v[abx]') and is left
out with a line where that is missing.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ccc_w2v.cli.extract_features import layers as parse_layers
from ccc_w2v.cli.options import command_parser
from ccc_w2v.errors import InputError, exit_on_input_error
from ccc_w2v.run_folder import Output, add_overwrite_option, claim, content_of


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("--checkpoint", required=True, type=Path, help="a pre-trained or fine-tuned checkpoint")
    add("--manifest", required=True, type=Path, help=".tsv of the recordings that were aligned")
    add("--alignments", required=True, type=Path, help=".tsv of ccc-w2v align")
    add("--out", required=True, type=Path, help="folder for quality.json and quality.png")
    add("--layers", default="all", help="all, or numbers separated by commas; 0 enters the Transformer (default all)")
    add("--clusters", type=int, default=100, help="k-means units of a layer's frames (default 100)")
    add("--speakers", help="who speaks: a .tsv manifest's folders, a map, or librispeech (default: the manifest)")
    add("--no-abx", action="store_true", help="leave ABX out, which takes the longest")
    add("--seed", type=int, default=1, help="of k-means and of ABX's sampling (default 1)")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where the network runs")
    add_overwrite_option(parser)
    return parser.parse_args()


@exit_on_input_error
def main() -> None:
    options = arguments()
    if options.clusters < 2:
        raise InputError(f"--clusters {options.clusters}: expected 2 or more")
    import logging

    # Before fairseq, which would let matplotlib tell where it keeps its fonts.
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    from ccc_w2v.capacity import refuse_missing_gpu
    from ccc_w2v.data.alignments import read_alignments
    from ccc_w2v.data.manifest import read_manifest
    from ccc_w2v.data.trn import utterance_ids
    from ccc_w2v.files import whole, write_whole
    from ccc_w2v.probe.abx import available
    from ccc_w2v.probe.features import load_encoder
    from ccc_w2v.probe.quality import aligned_frames, measure_quality
    from ccc_w2v.report.quality import quality_figure, quality_table
    from ccc_w2v.score.speakers import units

    refuse_missing_gpu(options.device)
    manifest, alignments = read_manifest(options.manifest), read_alignments(options.alignments)
    speakers = units(options.speakers or options.manifest, utterance_ids(manifest)).names
    abx = not options.no_abx and available()
    if not options.no_abx and not abx:
        print("ABX is left out: fastabx is not installed (Python 3.12 and newer: ccc-w2v[abx])", file=sys.stderr)
    names = ("checkpoint", "manifest", "alignments", "layers", "clusters", "speakers", "seed")
    chosen = {name: getattr(options, name) for name in names}
    settings: dict[str, str | bool] = {name: content_of(str(value)) for name, value in chosen.items() if value}
    numbers, picture = options.out / "quality.json", options.out / "quality.png"
    settings |= {"command": "quality", "abx": abx}
    output = Output(options.out, settings, numbers, [numbers, picture], [options.manifest, options.alignments])
    claim(output, overwrite=options.overwrite)
    encoder = load_encoder(options.checkpoint, options.device)
    layers = list(parse_layers(options.layers)) or list(range(encoder.layers + 1))
    if not set(layers) <= set(range(encoder.layers + 1)):
        raise InputError(f"--layers {options.layers}: the model has layers 0 to {encoder.layers}")
    frames = aligned_frames(encoder, manifest, alignments, speakers, layers)
    codes = encoder.network.quantizer.num_vars if encoder.has_codes else 0
    rows = measure_quality(frames, layers, clusters=options.clusters, codes_per_group=codes, abx=abx, seed=options.seed)
    phones = f"the {len(set(frames.phones))} labels of the alignments"
    options.out.mkdir(parents=True, exist_ok=True)
    with whole(picture, overwrite=True) as partial:
        quality_figure(rows, phones).savefig(partial, format="png", dpi=110)
    write_whole(numbers, json.dumps({"settings": settings, "rows": rows}, indent=1, default=str) + "\n")
    print(f"{len(frames.phones):,} frames of {phones}")
    print(quality_table(rows))
    print(f"{numbers}\n{picture}")
