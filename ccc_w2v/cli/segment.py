"""Hours-long recordings: find segments at their pauses, and list them as offsets. Nothing is copied.

    ccc-w2v segment podcasts --out data
    ccc-w2v pretrain --data data --out exp/pretrain +task.resample=true
    ccc-w2v segment podcasts --out data --shard 3/16        one share of the work; then: ccc-w2v merge data

Reads any format that libsndfile reads, once. Writes OUT/pretrain.tsv and OUT/dev.tsv, whose lines are
file:start:samples, and prints a summary. An interrupted call resumes. The voice activity detector is Silero's if it is
installed (pip install 'ccc-w2v[segment]'), else the recording's energy.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ccc_w2v.cli.options import command_parser
from ccc_w2v.errors import exit_on_input_error
from ccc_w2v.run_folder import add_overwrite_option
from ccc_w2v.sharding import add_shard_option

if TYPE_CHECKING:
    from ccc_w2v.corpora.own.splits import PreparedLists


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("folder", type=Path, help="folder of long recordings, searched recursively")
    add("--out", required=True, type=Path, help="folder for the manifests")
    add(
        "--detector",
        choices=("auto", "silero", "energy"),
        default="auto",
        help="what finds speech (default: silero if installed, else energy)",
    )
    for name, default, what in (
        ("max-seconds", 30.0, "longest segment"),
        ("min-seconds", 1.0, "shortest segment; shorter speech is left out"),
        ("pause", 0.3, "shortest pause at which a segment may end"),
        ("silence", 2.0, "longest pause within a segment"),
    ):
        add(f"--{name}", type=float, default=default, metavar="S", help=f"{what} (default: %(default)s)")
    add(
        "--speakers",
        default="recording",
        metavar="RULE",
        help="what is held out as a whole: recording, folder (the first below FOLDER), or a regular expression on the "
        "path whose first group names it (default: recording)",
    )
    add("--dev", type=float, default=0.01, help="share of the speech held out in dev.tsv (default: %(default)s)")
    add(
        "--sample-rate",
        type=int,
        default=16_000,
        metavar="HZ",
        help="the training's; recordings of another are named in a note (default: %(default)s)",
    )
    add("--seed", type=int, default=0, help="seed of the split (default: %(default)s)")
    add("--leave-out-bad", action="store_true", help="skip recordings that cannot be read")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="threads (default: one per core)")
    add_shard_option(parser)
    add_overwrite_option(parser)
    return parser.parse_args()


@exit_on_input_error
def main() -> None:
    options = arguments()
    from ccc_w2v.cli.shares import say_done
    from ccc_w2v.corpora.long.prepare import SegmentOptions, segment_folder
    from ccc_w2v.corpora.long.segments import SegmentLimits

    segmented = segment_folder(
        options.folder,
        options.out,
        SegmentOptions(
            options.detector,
            SegmentLimits(options.min_seconds, options.max_seconds, options.pause, options.silence),
            options.speakers,
            options.dev,
            options.sample_rate,
            options.seed,
        ),
        leave_out_bad=options.leave_out_bad,
        overwrite=options.overwrite,
        workers=options.jobs,
        shard=options.shard,
    )
    if segmented is None:
        say_done(options.out, options.shard)
        return
    print(table(segmented))


def table(segmented: PreparedLists) -> str:
    """Return what the lists hold, and the notes."""
    lines = [f"{'list':<10}{'recordings':>12}{'segments':>10}{'hours':>10}"]
    lines += [
        f"{name:<10}{size['recordings']:>12}{size['segments']:>10}{size['hours']:>10.3f}"
        for name, size in segmented.lists.items()
    ]
    return "\n".join([*lines, *(f"note: {note}" for note in segmented.notes)])
