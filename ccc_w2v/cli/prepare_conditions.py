r"""Write a test set under fixed conditions (noise, rooms, telephone ...): the same audio for every system.

    ccc-w2v prepare conditions --manifest data/small/test.tsv --pipelines recipes/small/conditions/*.yaml \
        --noise-manifest data/small/noise_test.tsv --out data/small/conditions

Each pipeline (see recipes/augment) is a condition of the file's name: OUT/test_<name>.tsv, with its labels, has the
utterances and ids of the original. The same command again draws the same.
"""

from __future__ import annotations

import argparse

from ccc_w2v.cli.options import command_parser
from ccc_w2v.errors import exit_on_input_error
from ccc_w2v.run_folder import add_overwrite_option


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--manifest", required=True, help=".tsv manifest, mono at 16 kHz, of the test set")
    parser.add_argument("--pipelines", required=True, nargs="+", help="pipelines' YAML files, or presets' names")
    parser.add_argument("--noise-manifest", help=".tsv manifest of noises, for pipelines that mix one in")
    parser.add_argument("--out", required=True, help="folder for manifests and audio")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default 0)")
    add_overwrite_option(parser)
    return parser.parse_args()


@exit_on_input_error
def main() -> None:
    options = arguments()
    from ccc_w2v.dataset.conditions import write_conditions

    written = write_conditions(
        options.manifest,
        options.pipelines,
        options.out,
        noise_manifest=options.noise_manifest,
        seed=options.seed,
        overwrite=options.overwrite,
    )
    for path in written.values():
        print(path)
