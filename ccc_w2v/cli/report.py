"""Write one self-contained HTML page about decodings: rates, worst utterances with audio, length, noise, confusions.

ccc-w2v report decoded/test --manifest data/test.tsv --out report.html
ccc-w2v report decoded/ours decoded/wav2vec2 --manifest data/test.tsv --groups librispeech --out report.html
ccc-w2v report hyp.trn --ref ref.trn --normalize hub5 --out report.html
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ccc_w2v.cli.options import command_parser
from ccc_w2v.run_folder import Output, add_overwrite_option, check, file_output


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("systems", nargs="+", help="folders of ccc-w2v decode, or .trn files together with --ref")
    parser.add_argument("--out", required=True, type=Path, help="the HTML file")
    parser.add_argument("--ref", help="references, NIST .trn; default: the folders' ref.trn")
    parser.add_argument(
        "--manifest", help="manifest (.tsv) that was decoded: adds audio players and signal-to-noise ratios"
    )
    parser.add_argument("--normalize", default="none", help="text normalisation for all: none, librispeech or hub5")
    parser.add_argument("--groups", metavar="SPEAKERS", help="as in ccc-w2v score: a map, a .tsv or an id scheme")
    parser.add_argument("--conditions", help="lines of utterance-id condition: also score each condition")
    parser.add_argument("--worst", type=int, default=30, help="number of worst utterances shown (default 30)")
    parser.add_argument("--max-audio-mb", type=float, default=16, help="most audio to embed [MB] (default 16)")
    parser.add_argument("--title", default="Word error rates", help="heading of the page")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    add_overwrite_option(parser)
    return parser.parse_args()


def output_of(options: argparse.Namespace, files: dict[str, Path]) -> Output:
    """Return the page to write and everything that it is made from."""
    names = ("manifest", "groups", "conditions")
    read = [*files.values(), *(vars(options)[name] for name in names if vars(options)[name])]
    limits = ("normalize", "worst", "max_audio_mb", "title", "seed")
    return file_output(options.out, {**files, **{name: vars(options)[name] for name in (*names, *limits)}}, read)


def main() -> int:
    options = arguments()
    from ccc_w2v.errors import InputError, exit_on_input_error
    from ccc_w2v.files import write_whole
    from ccc_w2v.report.build import Limits, build_report, render
    from ccc_w2v.score.compare import system_files
    from ccc_w2v.score.options import ScoringOptions

    @exit_on_input_error
    def run() -> None:
        if options.worst < 0 or not 0 <= options.max_audio_mb < 1000:
            raise InputError("--worst and --max-audio-mb: expected 0 or more, and less than 1000 MB")
        output = output_of(options, system_files(options.systems, options.ref))
        check(output, overwrite=options.overwrite)
        report = build_report(
            options.systems,
            ScoringOptions(options.normalize, options.seed, options.groups, options.conditions),
            reference_path=options.ref,
            manifest_path=options.manifest,
            title=options.title,
            limits=Limits(options.worst, int(options.max_audio_mb * 1e6)),
        )
        write_whole(options.out, render(report, output.settings))
        print(f"{options.out}: {len(report['systems'])} systems, {len(report['utterances'])} worst utterances")
        if left_out := report["audio_left_out"]:
            print(f"audio of {left_out} of them left out, beyond {options.max_audio_mb:g} MB; see --max-audio-mb")

    return run()
