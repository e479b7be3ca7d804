r"""Score hyp.trn against ref.trn: WER and CER with bootstrap intervals, by speaker, condition and length; confusions.

    ccc-w2v score --ref decoded/test/ref.trn --hyp decoded/test/hyp.trn --normalize librispeech
    ccc-w2v score --standard hub5 --stm hub5e00.stm --glm en20000405_hub5.glm --segments eval2000.segments \
        --hyp decoded/eval2000/hyp.ctm

The second scores recordings as NIST's hubscr does, with NIST sclite, if it is installed, and our own counts beside it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ccc_w2v.cli.options import command_parser
from ccc_w2v.errors import InputError
from ccc_w2v.run_folder import SETTINGS_KEY, Output, add_overwrite_option, check, file_output, refuse_input


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--ref", help="references, NIST .trn")
    parser.add_argument("--hyp", required=True, help="hypotheses, NIST .trn (or .ctm with --standard hub5)")
    parser.add_argument(
        "--normalize", default="none", help="text normalisation: none, librispeech or hub5 (without a GLM)"
    )
    parser.add_argument("--json", help="also write the numbers to this JSON file")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    parser.add_argument(
        "--groups",
        metavar="SPEAKERS",
        help="resample speakers or conversation sides instead of utterances: a file of lines utterance-id speaker, a "
        ".tsv manifest (its folders are the speakers), or librispeech or switchboard, whose ids tell",
    )
    parser.add_argument("--conditions", help="lines of utterance-id condition: also score each condition")
    add_overwrite_option(parser)
    hub5 = parser.add_argument_group("scoring of recordings")
    hub5.add_argument("--standard", choices=("hub5",), help="score by the rules of this evaluation")
    hub5.add_argument("--stm", help="references with times, NIST .stm")
    hub5.add_argument("--glm", help="NIST's global mapping file")
    hub5.add_argument("--segments", help="lines of utterance recording channel start end, for --hyp of utterances")
    hub5.add_argument("--ctm-out", help="also write the hypotheses of whole recordings, sorted, to this .ctm file")
    options = parser.parse_args()
    of_texts, of_recordings = {"ref", "groups", "conditions"}, {"stm", "glm", "segments", "ctm_out"}
    named = {name for name in of_texts | of_recordings if vars(options)[name] is not None}
    with_or_without = "with" if options.standard else "without"
    if idle := named & (of_texts if options.standard else of_recordings):
        parser.error(f"--{sorted(idle)[0].replace('_', '-')} does not go {with_or_without} --standard hub5")
    if missing := ({"stm", "glm"} if options.standard else {"ref"}) - named:
        parser.error(f"expected {' and '.join(f'--{name}' for name in sorted(missing))}")
    if options.standard and options.normalize != "none":
        parser.error("no use for --normalize with --standard hub5: the GLM holds the text rules")
    return options


def claimed(options: argparse.Namespace) -> Output:
    """Return what is written and from what; raises InputError where something else is there, or one of the inputs."""
    read = {name: vars(options)[name] for name in ("ref", "hyp", "groups", "conditions", "stm", "glm", "segments")}
    settings = {**read, **{name: vars(options)[name] for name in ("standard", "normalize", "seed")}}
    inputs = [path for path in read.values() if path]
    output = file_output(options.json or "", settings, inputs)
    same = check(output, overwrite=options.overwrite) if options.json else False
    if options.ctm_out:
        refuse_input([Path(options.ctm_out)], inputs)
        if Path(options.ctm_out).exists() and not (same or options.overwrite):
            raise InputError(f"{options.ctm_out}: exists already; name another --ctm-out, or give --overwrite")
    return output


def main() -> int:
    options = arguments()
    from ccc_w2v.errors import exit_on_input_error
    from ccc_w2v.files import write_whole
    from ccc_w2v.score.hub5.report import hub5_table, measure_hub5
    from ccc_w2v.score.options import ScoringOptions
    from ccc_w2v.score.scorecard import measure, table

    def measured() -> tuple[dict[str, Any], str]:
        if options.standard:
            hub5_card = measure_hub5(
                options.stm,
                options.hyp,
                options.glm,
                cuts_path=options.segments,
                ctm_out=options.ctm_out,
                seed=options.seed,
            )
            return hub5_card.as_dict(), hub5_table(hub5_card)
        scoring = ScoringOptions(options.normalize, options.seed, options.groups, options.conditions)
        card = measure(options.ref, options.hyp, scoring)
        return card.as_dict(), table(card)

    @exit_on_input_error
    def run() -> None:
        outputs = claimed(options)
        report, text = measured()
        if options.json:
            write_whole(options.json, json.dumps({**report, SETTINGS_KEY: outputs.settings}, indent=2) + "\n")
        print(text)

    return run()
