r"""Turn a folder of recordings into a corpus: one audio format, splits by speaker, labels and dictionary.

    ccc-w2v manifest recordings --out data                                    words in NAME.txt beside NAME.wav
    ccc-w2v manifest recordings --out data --transcripts transcripts.tsv
    ccc-w2v manifest recordings --out data --transcripts validated.tsv --speakers '^(\w+)_'

Reads any format that libsndfile reads, at any rate, with any number of channels. The first line of a table (.tsv or
.csv) names its columns: path and text, and optionally speaker, split, start and end (seconds). Recordings without a
transcript are used for pre-training. Recordings longer than --max-seconds are cut at pauses. Writes
OUT/{pretrain,train,dev,test}.tsv with their labels and OUT/audio, and prints a summary. An interrupted call resumes.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ccc_w2v.cli.options import add_old_spelling, command_parser
from ccc_w2v.run_folder import add_overwrite_option
from ccc_w2v.sharding import add_shard_option


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("folder", type=Path, help="folder of your recordings, searched recursively")
    add("--out", required=True, type=Path, help="folder for manifests, labels and converted audio")
    add("--transcripts", default="", metavar="TABLE", help=".tsv or .csv; default: a .txt beside each recording")
    add(
        "--speakers",
        default="folder",
        metavar="RULE",
        help="who speaks, if the table has no column speaker: folder (the first below FOLDER), recording (each its own "
        "speaker), or a regular expression on the path whose first group is the speaker (default: folder)",
    )
    add("--dev", type=float, default=0.1, help="share of the audio for dev (default: %(default)s)")
    add("--test", type=float, default=0.1, help="share of the audio for test (default: %(default)s)")
    add(
        "--sample-rate", type=int, default=16_000, metavar="HZ", help="sample rate to convert to (default: %(default)s)"
    )
    add(
        "--max-seconds",
        type=float,
        default=30.0,
        metavar="S",
        help="longest recording that is not cut (default: %(default)s)",
    )
    add(
        "--text",
        default="simple",
        choices=("simple", "as-is"),
        help="simple: upper case, no marks but apostrophes in words (default); as-is: every character is a label",
    )
    add("--seed", type=int, default=0, help="seed of the splits (default: %(default)s)")
    add("--leave-out-bad", action="store_true", help="skip recordings that cannot be read")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="threads (default: one per core)")
    add_old_spelling(parser, "--workers", "jobs")
    add_shard_option(parser)
    add_overwrite_option(parser)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    from ccc_w2v.cli.shares import keep_conversion
    from ccc_w2v.corpora.own.prepare import ManifestOptions, convert_share, prepare

    wanted = ManifestOptions(
        options.transcripts,
        options.sample_rate,
        options.speakers,
        options.dev,
        options.test,
        options.max_seconds,
        options.text,
        options.seed,
    )
    how = {"leave_out_bad": options.leave_out_bad, "overwrite": options.overwrite, "workers": options.jobs}
    if options.shard:
        items, of = convert_share(options.folder, options.out, wanted, options.shard, **how)
        keep_conversion(options.out, options.shard, "manifest", items, of)
        return
    prepared = prepare(options.folder, options.out, wanted, **how)
    print(f"{'list':<10}{'utterances':>12}{'hours':>10}{'speakers':>10}")
    for name, size in prepared.lists.items():
        print(f"{name:<10}{size['utterances']:>12}{size['hours']:>10.3f}{size['speakers']:>10}")
    for note in prepared.notes:
        print(f"note: {note}")
