"""Measure and check everything that a GPU has to show, at most 20 minutes: OUT/report.json and OUT/report.md.

    ccc-w2v gpu-report --out gpu-report
    ccc-w2v gpu-report --out tiny-report --device cpu --size tiny

Tests marked `cuda`; steps in fp32, bf16 and fp16, compiled and not, of wav2vec 2.0, of ours with one and two contexts
and un-fused, at 1.4 million samples; their share of the device's matrix product rate, memory, hours of audio per device
hour beside published figures; attention kernel, deterministic algorithms, augmentation, decoding, several processes.

Each section is kept as soon as it is measured: the same command resumes with what is missing. Exit code 1: something is
missing or wrong.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ccc_w2v.cli.options import command_parser
from ccc_w2v.errors import InputError, exit_on_input_error
from ccc_w2v.run_folder import add_overwrite_option


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="what is measured (default: cuda)")
    parser.add_argument("--size", choices=("tiny", "small", "base", "large"), default="base", help="(default: base)")
    parser.add_argument("--samples", type=int, help="in a batch (default: 1400000, the recipe's; tiny: 32000)")
    parser.add_argument("--utterances", type=int, help="in a batch (default: 6; tiny: 2)")
    parser.add_argument("--rounds", type=int, help="measured calls of each (default: 5; tiny: 1)")
    parser.add_argument("--minutes", type=float, default=20.0, help="no section is begun after so long (default: 20)")
    parser.add_argument("--sections", nargs="+", metavar="SECTION", help="these alone (default: all)")
    add_overwrite_option(parser)
    return parser.parse_args()


@exit_on_input_error
def main() -> int:
    options = arguments()
    import torch

    from ccc_w2v.gpu_report.report import SECTIONS, write_report
    from ccc_w2v.gpu_report.section import ReportSettings

    if options.device == "cuda" and not torch.cuda.is_available():
        raise InputError("no GPU that torch can use; --device cpu --size tiny tries the report without one")
    unknown = [name for name in options.sections or [] if name not in SECTIONS]
    if unknown:
        raise InputError(f"no section '{unknown[0]}'; there are {', '.join(SECTIONS)}")
    tiny = options.size == "tiny"
    settings = ReportSettings(
        device=options.device,
        size=options.size,
        samples=options.samples or (32_000 if tiny else 1_400_000),
        utterances=options.utterances or (2 if tiny else 6),
        rounds=options.rounds or (1 if tiny else 5),
    )
    names = [name for name in SECTIONS if not options.sections or name in options.sections]
    well = write_report(settings, options.out, options.minutes, names, overwrite=options.overwrite)
    print(f"{options.out / 'report.md'}\n{options.out / 'report.json'}")
    return 0 if well else 1
