"""Hear the codes of a pre-trained checkpoint: one HTML page with the frames that chose each code most strongly.

    ccc-w2v codes --checkpoint exp/run1/checkpoints/checkpoint_last.pt --manifest data/small/dev.tsv --out codes.html

The page has sound, spectrogram and share of use for every code in use, with --alignments also its letters or phones,
the codes that no frame chose, and which groups of codes lead to which: the graph of code transitions, clustered by the
imbalance of its flows (DIGRAC, arXiv 2106.05194).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ccc_w2v.cli.options import command_parser
from ccc_w2v.errors import InputError, exit_on_input_error
from ccc_w2v.run_folder import add_overwrite_option, claim, file_output


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument(
        "--checkpoint", required=True, type=Path, help="a pre-trained checkpoint, of ours or of fairseq"
    )
    parser.add_argument("--manifest", required=True, type=Path, help=".tsv of the recordings to look through")
    parser.add_argument("--out", required=True, type=Path, help="the HTML page")
    parser.add_argument("--examples", type=int, default=3, help="frames shown of each code (default 3)")
    parser.add_argument("--clusters", type=int, default=5, help="groups of codes by flow, 2 or more (default 5)")
    parser.add_argument("--seed", type=int, default=1, help="of the clusters' starts (default 1)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the network runs")
    parser.add_argument(
        "--alignments", type=Path, help=".tsv of ccc-w2v align: also shows the letters (or phones) of each code"
    )
    add_overwrite_option(parser)
    return parser.parse_args()


@exit_on_input_error
def main() -> None:
    options = arguments()
    if options.examples < 1 or options.clusters < 2:
        raise InputError("--examples must be at least 1 and --clusters at least 2")
    if options.out.suffix != ".html":
        raise InputError(f"--out {options.out}: the page is HTML; give it a name that ends in .html")
    import logging

    # Before fairseq, which would let matplotlib tell where it keeps its fonts.
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    from ccc_w2v.capacity import refuse_missing_gpu
    from ccc_w2v.data.alignments import read_alignments
    from ccc_w2v.data.manifest import read_manifest
    from ccc_w2v.probe.code_examples import labels_of_codes, use_of_codes
    from ccc_w2v.probe.features import load_encoder
    from ccc_w2v.report.codes import write_codes_page

    refuse_missing_gpu(options.device)
    manifest = read_manifest(options.manifest)
    names = ("checkpoint", "manifest", "examples", "clusters", "seed", "alignments")
    chosen = {name: value for name in names if (value := getattr(options, name)) is not None}
    alignments = read_alignments(options.alignments) if options.alignments else None
    output = file_output(options.out, chosen, [options.checkpoint, options.manifest])
    claim(output, overwrite=options.overwrite)
    encoder = load_encoder(options.checkpoint, options.device)
    use = use_of_codes(encoder, manifest, options.examples)
    settings = json.dumps(dict(output.settings), default=str)
    labels = labels_of_codes(encoder, manifest, use, alignments) if alignments else None
    write_codes_page(
        options.out, encoder, manifest, use, labels, clusters=options.clusters, seed=options.seed, settings=settings
    )
    for group, counts_V in enumerate(use.counts_GV, start=1):
        print(f"group {group}: {int((counts_V > 0).sum())} of {len(counts_V)} codes in use")
    print(options.out)
