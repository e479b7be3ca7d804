"""Is a training healthy? Judge a run by its signals: ok, watch or collapsed, with cause and remedy.

    ccc-w2v health exp/prompts/seed1/pretrain
    ccc-w2v health outputs/run1 outputs/run2 --all

RUN_DIR holds signals.jsonl, which every training of the task ccc_pretraining writes beside its checkpoints, or
fairseq's log with common.log_format=json, of its own wav2vec 2.0 and of a CTC fine-tuning too. Exit code 0 for ok and
watch, 3 for collapsed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ccc_w2v.cli.options import command_parser
from ccc_w2v.errors import exit_on_input_error

COLLAPSED = 3


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR", help="folder of a training run")
    parser.add_argument("--bands", type=Path, help="YAML of what is healthy (default: manifests/health_bands.yaml)")
    parser.add_argument("--all", action="store_true", help="judge after every row, and print each change")
    return parser.parse_args()


@exit_on_input_error
def main() -> int:
    options = arguments()
    from ccc_w2v.training.health.history import read_history
    from ccc_w2v.training.health.rules import load_rules
    from ccc_w2v.training.health.verdict import judge, verdicts

    rules = load_rules(options.bands)
    statuses = []
    for run in options.runs:
        rows = read_history(run)
        last = judge(rows, rules)
        shown = verdicts(rows, rules) if options.all else [last]
        head = f"{run}: " if len(options.runs) > 1 else ""
        for verdict in shown:
            print(f"{head}{verdict.sentence()}")
        for finding in last.findings[1:]:
            print(f"{head}  and {finding.rule.status}: {finding.sentence()}")
        statuses.append(last.status)
    return COLLAPSED if "collapsed" in statuses else 0
