r"""Prepare Switchboard-1 for training, Hub5'00 and RT-03 for testing, from LDC's folders, at 16 kHz.

    ccc-w2v prepare switchboard --out data/switchboard --train /ldc/LDC97S62 \
        --eval2000-audio /ldc/LDC2002S09 --eval2000-text /ldc/LDC2002T43 --rt03 /ldc/LDC2007S10

Any part may be left out and added by a later call; finished parts are kept. The transcripts for training
are free and are fetched (OpenSLR 5) unless --transcripts names their folder.
"""

from __future__ import annotations

import argparse

from ccc_w2v.cli.options import command_parser
from ccc_w2v.errors import exit_on_input_error
from ccc_w2v.sharding import add_shard_option


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--out", required=True, help="folder for audio, manifests and labels")
    parser.add_argument("--train", help="folder of LDC97S62, Switchboard-1 Release 2, all discs")
    parser.add_argument("--transcripts", help="folder swb_ms98_transcriptions (default: download it)")
    parser.add_argument("--eval2000-audio", help="folder of LDC2002S09, the audio of Hub5'00")
    parser.add_argument("--eval2000-text", help="folder of LDC2002T43, its references and rules")
    parser.add_argument("--rt03", help="folder of LDC2007S10, RT-03")
    parser.add_argument(
        "--fisher", default="", help="folders of LDC2004T19, LDC2005T19, comma-separated: more text in lm.txt"
    )
    parser.add_argument(
        "--noises", choices=("keep", "drop"), default="drop", help="what to do with [NOISE] and the like in labels"
    )
    parser.add_argument("--audio", choices=("zip", "folder"), default="zip", help="one zip or one folder per call")
    parser.add_argument(
        "--dev", type=int, default=4_000, help="how many of the first utterances are held out (default: %(default)s)"
    )
    parser.add_argument(
        "--first",
        type=int,
        default=100_000,
        help="how many utterances train_100k_nodup is selected from (default: %(default)s)",
    )
    parser.add_argument("--url", help="URL of the transcripts (default: OpenSLR's)")
    add_shard_option(parser)
    return parser.parse_args()


@exit_on_input_error
def main() -> None:
    options = arguments()
    from ccc_w2v.cli.shares import keep_conversion
    from ccc_w2v.corpora.switchboard.prepare import Options, convert_share, prepare

    asked = Options(
        train=options.train,
        transcripts=options.transcripts,
        eval2000_audio=options.eval2000_audio,
        eval2000_text=options.eval2000_text,
        rt03=options.rt03,
        fisher=tuple(folder for folder in options.fisher.split(",") if folder),
        keep_noises=options.noises == "keep",
        zipped=options.audio == "zip",
        dev=options.dev,
        first=options.first,
    )
    if options.shard:
        items, of = convert_share(options.out, asked, options.shard)
        keep_conversion(options.out, options.shard, "prepare switchboard", items, of)
        return
    prepare(options.out, asked, url=options.url)
