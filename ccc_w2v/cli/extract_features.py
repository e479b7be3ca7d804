"""Extract hidden states, and codebook indices, of a manifest's recordings into shards with an index.

    ccc-w2v features --checkpoint ckpt.pt --manifest data/test.tsv --out features --layers 6,12 --mean

index.tsv gives, for each utterance, its shard and the positions of its rows and frames there. A shard's array
"features" is (rows, layers, width); with --codes there is "codes" (frames, groups) beside it. An interrupted run
resumes with the same command.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ccc_w2v.cli.options import command_parser
from ccc_w2v.errors import exit_on_input_error
from ccc_w2v.run_folder import add_overwrite_option
from ccc_w2v.sharding import add_shard_option


def parse_arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--checkpoint", required=True, help="a pre-trained or fine-tuned fairseq checkpoint")
    parser.add_argument("--manifest", required=True, help=".tsv manifest of the audio")
    parser.add_argument("--out", required=True, type=Path, help="folder for the shards")
    parser.add_argument(
        "--layers",
        default="all",
        help="all, or comma-separated numbers: 0 is the Transformer's input, i its i-th layer's output (default all)",
    )
    parser.add_argument("--mean", action="store_true", help="one row per utterance, the mean over its frames")
    parser.add_argument("--codes", action="store_true", help="also codebook indices (pre-trained checkpoints only)")
    parser.add_argument(
        "--format", choices=("safetensors", "npy", "hdf5"), default="safetensors", help="format of the shards"
    )
    parser.add_argument("--half", action="store_true", help="store float16")
    parser.add_argument("--shard-utterances", type=int, default=500, help="utterances per shard (default 500)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the network runs")
    add_shard_option(parser)
    add_overwrite_option(parser)
    return parser.parse_args()


@exit_on_input_error
def main() -> int:
    from ccc_w2v.cli.shares import lines_of_shard

    with lines_of_shard(parse_arguments(), "features") as own:
        return extract(own)


def extract(arguments: argparse.Namespace) -> int:
    from ccc_w2v.capacity import refuse_missing_gpu
    from ccc_w2v.data.manifest import read_manifest
    from ccc_w2v.errors import InputError
    from ccc_w2v.files import sha256
    from ccc_w2v.probe import features

    refuse_missing_gpu(arguments.device)
    if arguments.shard_utterances < 1:
        raise InputError(f"--shard-utterances {arguments.shard_utterances}: expected 1 or more")
    wanted = features.Wanted(
        layers(arguments.layers),
        arguments.mean,
        arguments.codes,
        arguments.format,
        arguments.half,
        arguments.shard_utterances,
    )
    manifest = read_manifest(arguments.manifest)
    encoder = features.load_encoder(arguments.checkpoint, arguments.device)
    identity = sha256(arguments.checkpoint)
    done = features.extract(encoder, manifest, arguments.out, wanted, identity, overwrite=arguments.overwrite)
    print(f"{arguments.out / 'index.tsv'}: {len(manifest)} utterances, {done} of them from an earlier run")
    return 0


def layers(text: str) -> tuple[int, ...]:
    """Read "all" or numbers between commas."""
    from ccc_w2v.errors import InputError

    if text == "all":
        return ()
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError as error:
        raise InputError(f"--layers {text}: expected all, or numbers separated by commas") from error
