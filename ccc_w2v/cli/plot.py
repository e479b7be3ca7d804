"""Curves of trainings side by side, with the bands of health behind them: OUT.png and OUT.html.

    ccc-w2v plot exp/run1 exp/run2 --out curves
    ccc-w2v plot exp/run1 --out curves --against hours

The page holds the curves against updates, hours of audio processed and seconds of training, and the verdict on each
run; the picture has one of the three. RUN_DIR is as for `ccc-w2v health`. A run in progress may be plotted again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ccc_w2v.cli.options import command_parser
from ccc_w2v.errors import exit_on_input_error
from ccc_w2v.run_folder import Output, add_overwrite_option, claim


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR", help="folder of a training run")
    parser.add_argument("--out", type=Path, required=True, help="where the picture and the page go, without ending")
    parser.add_argument(
        "--against", choices=("updates", "hours", "seconds"), default="updates", help="picture's x axis"
    )
    parser.add_argument("--bands", type=Path, help="YAML of what is healthy (default: manifests/health_bands.yaml)")
    add_overwrite_option(parser)
    return parser.parse_args()


@exit_on_input_error
def main() -> None:
    options = arguments()
    from ccc_w2v.report.curves import draw, read_runs, write_page, write_picture
    from ccc_w2v.training.health.rules import load_rules

    rules = load_rules(options.bands)
    runs = read_runs(options.runs, rules)
    picture, page = (Path(f"{options.out}.{ending}") for ending in ("png", "html"))
    settings = {"command": "plot", "runs": [str(run.resolve()) for run in options.runs]}
    claim(Output(options.out, settings, page, [picture, page]), overwrite=options.overwrite)
    figure = draw(runs, rules, options.against)
    write_page(runs, rules, page, settings)
    write_picture(figure, picture)
    for run in runs:
        print(f"{run.name}: {run.verdict.sentence()}")
    print(f"{picture}\n{page}")
