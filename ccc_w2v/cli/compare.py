"""Compare decodings of one test set: WER with intervals, and for each pair whether the difference is significant.

ccc-w2v compare decoded/ours decoded/wav2vec2 --normalize librispeech
ccc-w2v compare a.trn b.trn c.trn --ref ref.trn --groups utt2spk
"""

from __future__ import annotations

import argparse
import json

from ccc_w2v.cli.options import command_parser
from ccc_w2v.run_folder import SETTINGS_KEY, add_overwrite_option, check, file_output


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("systems", nargs="+", help="folders of ccc-w2v decode, or .trn files together with --ref")
    parser.add_argument("--ref", help="references, NIST .trn; default: the folders' ref.trn")
    parser.add_argument("--normalize", default="none", help="text normalisation for all: none, librispeech or hub5")
    parser.add_argument("--json", help="also write the numbers to this JSON file")
    add_overwrite_option(parser)
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    parser.add_argument(
        "--groups",
        metavar="SPEAKERS",
        help="resample speakers or conversation sides instead of utterances: a file of lines utterance-id speaker, a "
        ".tsv manifest (its folders are the speakers), or librispeech or switchboard, whose ids tell",
    )
    return parser.parse_args()


def main() -> int:
    options = arguments()
    from ccc_w2v.errors import exit_on_input_error
    from ccc_w2v.files import write_whole
    from ccc_w2v.score.compare import compare, comparison_table, system_files
    from ccc_w2v.score.options import ScoringOptions

    @exit_on_input_error
    def run() -> None:
        files = system_files(options.systems, options.ref)
        read = {**files, "groups": options.groups, "normalize": options.normalize, "seed": options.seed}
        output = file_output(options.json or "", read, [*files.values(), *([options.groups] if options.groups else [])])
        if options.json:
            check(output, overwrite=options.overwrite)
        scoring = ScoringOptions(options.normalize, options.seed, options.groups)
        comparison = compare(options.systems, scoring, options.ref)
        if options.json:
            write_whole(
                options.json, json.dumps({**comparison.as_dict(), SETTINGS_KEY: output.settings}, indent=2) + "\n"
            )
        print(comparison_table(comparison))

    return run()
