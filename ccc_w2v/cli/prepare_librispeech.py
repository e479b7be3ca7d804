"""Fetch LibriSpeech (61 GB, temporarily half as much again) or take an extracted tree, and write manifests and labels.

    ccc-w2v prepare librispeech --out data/librispeech
    ccc-w2v prepare librispeech --out data/librispeech --from /corpora/LibriSpeech --parts dev-clean,dev-other
    ccc-w2v prepare librispeech --out data/librispeech --limited

Then pre-train with task.data=data/librispeech/manifests dataset.train_subset=train_960 dataset.valid_subset=dev_other,
and fine-tune with dataset.train_subset=train_100, or with --limited train_10m, train_1h, train_10h. An interrupted
call resumes, parts may be added by later calls, and finished parts are kept.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ccc_w2v.cli.options import add_old_spelling, command_parser
from ccc_w2v.errors import InputError, exit_on_input_error
from ccc_w2v.sharding import add_shard_option


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("--out", required=True, help="folder for manifests and downloads")
    add(
        "--parts",
        help="comma-separated, as train-clean-100,dev-other; default: all seven, or none with --limited alone",
    )
    add("--from", dest="source", metavar="TREE", help="folder of the extracted archives (default: download them)")
    add(
        "--limited", action="store_true", help="fetch Libri-light's 10 minutes, 1 and 10 hours for fine-tuning (0.6 GB)"
    )
    add("--limited-from", metavar="TREE", help="take them from this folder librispeech_finetuning")
    add(
        "--mirrors",
        help="URLs to download from, comma-separated, in order of preference (default: OpenSLR's four mirrors)",
    )
    add("--keep-archives", action="store_true", help="keep the downloaded archives in OUT/download")
    add("--leave-out-bad", action="store_true", help="skip recordings that are damaged or have no transcript")
    add("--strict", action="store_true", help="exit with code 2 if anything differs from the published corpus")
    add("--jobs", type=int, help="threads that read recordings (default: one per core)")
    add_shard_option(parser)
    add_old_spelling(parser, "--workers", "jobs")
    return parser.parse_args()


@exit_on_input_error
def main() -> None:
    options = arguments()
    from ccc_w2v.cli.shares import keep_conversion
    from ccc_w2v.corpora.librispeech import librilight
    from ccc_w2v.corpora.librispeech import prepare as librispeech

    common = {"leave_out_bad": options.leave_out_bad, "workers": options.jobs}
    limited = options.limited or options.limited_from
    parts: Sequence[str] = librispeech.PARTS if options.parts is None and not (limited and not options.source) else ()
    if options.parts:
        parts = [part for part in options.parts.replace(" ", "").split(",") if part]
    if options.shard and (not parts or limited):
        raise InputError("--shard shares the parts of LibriSpeech; leave out --limited, the merge cannot fetch it")
    every = parts
    if options.shard:
        parts = options.shard.take(every, [librispeech.hours_of(part) for part in every])
    done = []
    if parts:
        mirrors = options.mirrors.replace(" ", "").split(",") if options.mirrors else librispeech.MIRRORS
        fetching = {"source": options.source, "mirrors": mirrors, "keep_archives": options.keep_archives}
        done.append(librispeech.prepare(options.out, parts, **fetching, **common))
    if limited:
        done.append(librilight.prepare(options.out, source=options.limited_from, **common))
    print(f"{'split':<12}{'utterances':>12}{'hours':>10}{'speakers':>10}")
    for split, size in ((split, size) for stage in done for split, size in stage["splits"].items()):
        print(f"{split:<12}{size['utterances']:>12}{size['hours']:>10.2f}{size['speakers']:>10}")
    for split, lacking in ((split, lacking) for stage in done for split, lacking in stage["waiting"].items()):
        print(f"{split} is not written: it needs {', '.join(lacking)} too")
    differences = [difference for stage in done for difference in stage["differences"]]
    for difference in differences:
        print(f"differs: {difference}", file=sys.stderr)
    if differences and options.strict:
        raise InputError(f"{len(differences)} differences from the published corpus; see above")
    if options.shard:
        of = {"parts": list(every), "from": options.source, "leave out bad": options.leave_out_bad}
        keep_conversion(options.out, options.shard, "prepare librispeech", (len(parts), len(every)), of)
