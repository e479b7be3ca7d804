#!/usr/bin/env python3
"""Read every recording of a manifest, and name each line that a training would stop at.

    python tools/check_manifest.py data/train.tsv
    python tools/check_manifest.py data/train.tsv --out data/train_good.tsv

--out writes the manifest, and the labels beside it, without the bad lines. Exit code 2 when a line is bad.
"""

from __future__ import annotations

import argparse
import os
import sys

from ccc_w2v.errors import exit_on_input_error


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", help=".tsv manifest")
    parser.add_argument("--out", help=".tsv manifest to write without the bad lines")
    parser.add_argument("--sample-rate", type=int, default=16_000, help="Hz that all must have (default: %(default)s)")
    parser.add_argument("--min-samples", type=int, default=1, help="shortest that is accepted (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="threads (default: one for each core)")
    return parser.parse_args()


@exit_on_input_error
def main() -> int:
    options = arguments()
    from ccc_w2v.data.check import find_bad_audio, write_without
    from ccc_w2v.data.manifest import LABEL_KINDS, read_labels, read_manifest

    manifest = read_manifest(options.manifest)
    for kind in LABEL_KINDS:
        read_labels(manifest, kind)
    bad = find_bad_audio(
        manifest, options.sample_rate, min_samples=options.min_samples, workers=max(1, options.workers)
    )
    for message in bad.values():
        print(f"error: {message}", file=sys.stderr)
    samples = [entry.samples for entry in manifest.entries if entry not in bad]
    hours = sum(samples) / options.sample_rate / 3600
    print(f"{options.manifest}: {len(samples)} of {len(manifest)} utterances are good, {hours:.2f} h", end="")
    longest = [f"{end(samples) / options.sample_rate:.2f} s" for end in (min, max)] if samples else []
    print(f", {' to '.join(longest)} each" if longest else "")
    if options.out:
        print(f"{options.out}: {write_without(manifest, bad, options.out)} utterances")
    return 2 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
