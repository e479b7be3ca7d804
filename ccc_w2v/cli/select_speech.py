r"""Choose hours of a manifest: by sensitivity, spread over clusters, the longest, or at random.

    ccc-w2v select --manifest data/train.tsv --hours 10 --by longest --out chosen
    ccc-w2v select --manifest data/train.tsv --hours 0.17 --by sensitivity \
        --checkpoint pretrain/checkpoint_last.pt --out to_transcribe

sensitivity draws utterances in proportion to what a pre-trained network may still get wrong about them, estimated from
clusters of its hidden states and its loss at their centres (arXiv 2402.17327); diverse takes equally much of each
cluster. OUT gets a manifest of the same name, its labels, NAME.weight (of each line, for
estimates of sums over all utterances), selection.json and selection.png (before and after). An interrupted call
resumes. Several machines share the embeddings by ccc-w2v features --mean --shard i/n, for --features (docs/scale.md).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ccc_w2v.cli.options import command_parser
from ccc_w2v.errors import InputError, exit_on_input_error
from ccc_w2v.run_folder import Output, add_overwrite_option, claim, content_of, keep_record


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("--manifest", required=True, type=Path, help=".tsv of the recordings to choose from")
    add("--hours", required=True, type=float, help="at most so much audio is chosen")
    add("--by", required=True, choices=("sensitivity", "diverse", "longest", "random"), help="how to choose")
    add("--out", required=True, type=Path, help="folder for the manifest and the report")
    add("--checkpoint", type=Path, help="a pre-trained checkpoint: for embeddings, and for the losses of sensitivity")
    add("--features", type=Path, help="folder of ccc-w2v features --mean (default: made in OUT with --checkpoint)")
    add("--layer", type=int, help="layer of the embeddings (default: the middle one, or the only one of --features)")
    add("--clusters", type=int, help="of utterances (default: one for every 40, from 2 to 500)")
    add("--lambda", type=float, dest="holder", help="Hoelder constant of sensitivity (default: estimated)")
    add("--power", type=int, choices=(1, 2), default=2, help="of the distance to a centre (default 2, k-means)")
    add("--speakers", help="who speaks: a manifest's folders, a map, or librispeech (default: MANIFEST's folders)")
    add("--sample-rate", type=int, default=16000, metavar="HZ", help="of the recordings (default: %(default)s)")
    add("--seed", type=int, default=1, help="of draws and clusters (default 1)")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where the network runs")
    add_overwrite_option(parser)
    return parser.parse_args()


def check(options: argparse.Namespace) -> None:
    """Raise InputError for options that do not fit together or are out of range."""
    if not options.hours > 0:
        raise InputError(f"--hours {options.hours:g}: expected more than 0")
    if options.clusters is not None and options.clusters < 2:
        raise InputError(f"--clusters {options.clusters}: expected 2 or more")
    if options.holder is not None and options.holder < 0:
        raise InputError(f"--lambda {options.holder:g}: must not be negative")
    if options.by == "sensitivity" and options.checkpoint is None:
        raise InputError("--by sensitivity needs a pre-trained network's losses; name it with --checkpoint")
    if options.by == "diverse" and options.checkpoint is None and options.features is None:
        raise InputError("--by diverse needs embeddings; name --features, or --checkpoint to make them")
    if options.sample_rate < 1:
        raise InputError(f"--sample-rate {options.sample_rate}: expected a positive number of Hz")


@exit_on_input_error
def main() -> None:
    options = arguments()
    check(options)
    import logging

    # Before fairseq, which would let matplotlib tell where it keeps its fonts.
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    from ccc_w2v.capacity import refuse_missing_gpu
    from ccc_w2v.data.labels import labelled_content
    from ccc_w2v.data.manifest import read_manifest
    from ccc_w2v.losses.bank import require_faiss
    from ccc_w2v.selection.choose import Wish, budget_of
    from ccc_w2v.selection.write import speakers_of

    refuse_missing_gpu(options.device)
    if options.checkpoint is not None or options.features is not None:
        require_faiss("clustering utterances")
    manifest = read_manifest(options.manifest)
    if options.clusters is not None and options.clusters > len(manifest):
        raise InputError(
            f"--clusters {options.clusters}: {options.manifest} has {len(manifest)} utterances; ask for fewer clusters"
        )
    output = declared_output(options, labelled_content(manifest))
    report = options.out / "selection.json"
    if claim(output, overwrite=options.overwrite) and report.is_file():
        print(f"{options.out}: chosen before with the same settings")
        return
    # What needs no network is checked before anything of the output is there.
    wish = Wish(options.hours, options.by, options.sample_rate, options.seed, options.holder, options.power)
    budget_of(manifest, wish)
    speakers = speakers_of(manifest, options.speakers)
    encoder = network(options)
    options.out.mkdir(parents=True, exist_ok=True)
    keep_record(output)
    try:
        print(make(options, manifest, wish, encoder, speakers, dict(output.settings)))
    except InputError:
        if [*options.out.iterdir()] == [output.record]:
            # Nothing was made: a corrected call is no other settings for it.
            output.record.unlink()
            options.out.rmdir()
        raise
    print(options.out / options.manifest.name)


def declared_output(options: argparse.Namespace, listed: dict[str, str]) -> Output:
    """Return what is written, and everything that decides it; ``listed`` are digests of manifest and labels."""
    out, name = options.out, options.manifest.name
    names = ("hours", "by", "layer", "clusters", "holder", "power", "speakers", "sample_rate", "seed")
    settings: dict[str, Any] = {"command": "select", **listed}
    settings |= {key: value for key in names if (value := getattr(options, key)) is not None}
    if options.checkpoint is not None:
        settings["checkpoint"] = content_of(options.checkpoint)
    if options.features is not None:
        settings["features"] = content_of(options.features / "index.tsv")
    kinds = [key.removeprefix("labels ") for key in listed if key.startswith("labels ")]
    written = [out / name, *(out / Path(name).with_suffix(kind) for kind in (".weight", *kinds))]
    written += [out / "selection.json", out / "selection.png", out / "losses.tsv", out / "features"]
    return Output(out, settings, out / "settings.json", written, [options.manifest])


def network(options: argparse.Namespace) -> Any:
    """Load the network, where one is named; raises InputError where it is not of the recordings' rate or the way's."""
    from ccc_w2v.probe.features import load_encoder

    if options.checkpoint is None:
        return None
    encoder = load_encoder(options.checkpoint, options.device)
    if encoder.sample_rate != options.sample_rate:
        raise InputError(f"--sample-rate {options.sample_rate}: the network expects {encoder.sample_rate} Hz")
    if options.by == "sensitivity" and not encoder.has_codes:
        raise InputError("--by sensitivity needs a pre-trained checkpoint: fine-tuning drops the codebook of its loss")
    if options.features is None and options.layer is not None and not 0 <= options.layer <= encoder.layers:
        raise InputError(f"--layer {options.layer}: the model has layers 0 (what enters the first) to {encoder.layers}")
    return encoder


def make(
    options: argparse.Namespace,
    manifest: Any,
    wish: Any,
    encoder: Any,
    speakers: Sequence[str] | None,
    settings: dict[str, Any],
) -> str:
    """Cluster, choose, and write everything, selection.json last; returns the table of before and after."""
    from ccc_w2v.selection.choose import choose
    from ccc_w2v.selection.clusters import cluster_number, cluster_utterances
    from ccc_w2v.selection.losses import losses_of
    from ccc_w2v.selection.write import write_selection

    values = embeddings(options, manifest, encoder)
    clusters = None
    if values is not None:
        number = options.clusters or min(cluster_number(len(manifest)), len(manifest))
        clusters = cluster_utterances(values, number, options.seed)
    kept = options.out / "losses.tsv"
    losses = None if encoder is None else partial(losses_of, encoder, manifest, seed=options.seed, kept=kept)
    chosen = choose(manifest, wish, clusters, losses)
    return write_selection(options.out, manifest, wish, chosen, clusters, speakers, settings)


def embeddings(options: argparse.Namespace, manifest: Any, encoder: Any) -> Any:
    """Return an embedding of each utterance: of --features, or made in the output; None without a network."""
    from ccc_w2v.files import sha256
    from ccc_w2v.probe.features import Wanted, extract
    from ccc_w2v.selection.clusters import read_embeddings

    if options.features is not None:
        return read_embeddings(options.features, manifest, options.layer)
    if encoder is None:
        return None
    layer = encoder.layers // 2 if options.layer is None else options.layer
    folder = options.out / "features"
    extract(encoder, manifest, folder, Wanted(layers=(layer,), mean=True), sha256(options.checkpoint))
    return read_embeddings(folder, manifest, layer)
