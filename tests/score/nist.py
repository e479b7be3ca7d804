"""NIST's scoring programs where they are installed, and generated utterances to score with them."""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from ccc_w2v.data.trn import write_trn
from ccc_w2v.score.alignment import Pair
from ccc_w2v.score.hub5.sclite import command, installed

SCLITE, SC_STATS = command("sclite"), command("sc_stats")
needs_sclite = pytest.mark.skipif(not installed(), reason="NIST sclite is not installed (package sctk)")


def utterance_pairs(seed: int, vocabulary: int, longest: int) -> tuple[dict[str, str], dict[str, str]]:
    """Draw 300 references with hypotheses, half of them unrelated, half with some words changed."""
    draw = random.Random(seed)
    words = ["A", "I'M", "THE", "O'CLOCK", "CAT", "HAT", "CATHAT", "'TIS", "THEA", "IM", "SAT", "TO"][:vocabulary]
    references, hypotheses = {}, {}
    for index in range(300):
        reference = draw.choices(words, k=draw.randint(1, longest))
        hypothesis = draw.choices(words, k=draw.randint(0, longest))
        if index % 2:
            hypothesis = [word for word in reference if draw.random() > 0.1]
            hypothesis = [draw.choice(words) if draw.random() < 0.2 else word for word in hypothesis]
        references[f"spk{index % 7}-{index:04d}"] = " ".join(reference)
        hypotheses[f"spk{index % 7}-{index:04d}"] = " ".join(hypothesis)
    return references, hypotheses


def sgml(folder: Path, references: Mapping[str, str], hypotheses: Mapping[str, str], name: str) -> str:
    """Return sclite's alignment of a system in the form that sc_stats reads."""
    write_trn(folder / "ref.trn", references)
    write_trn(folder / f"{name}.trn", hypotheses)
    files = ["-r", str(folder / "ref.trn"), "trn", "-h", str(folder / f"{name}.trn"), "trn", name]
    command = [*SCLITE, "-i", "spu_id", "-s", *files, "-o", "sgml", "stdout"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def sclite_alignments(report: str) -> dict[str, list[Pair]]:
    """Read sclite's alignments out of sgml()."""
    alignments = {}
    for utterance, content in re.findall(r'<PATH id="\(([^)]+)\)"[^>]*>\n(.*)\n</PATH>', report):
        places = [place.split(",")[1:] for place in content.split(":")] if content else []
        alignments[utterance] = [
            (left.strip('"') if left else None, right.strip('"') if right else None) for left, right in places
        ]
    return alignments


def mapsswe(folder: Path, reports: list[str]) -> tuple[int, float, float, float]:
    """Return what sc_stats finds for two systems: segments, mean difference, Z, p; three decimals each."""
    printed = []
    for option, report in (("-v", "mapsswe"), ("-u", "unified")):
        command = [*SC_STATS, "-p", "-t", "mapsswe", option, "-n", "out"]
        subprocess.run(command, input="".join(reports), capture_output=True, text=True, check=True, cwd=folder)
        # Its table of critical values holds stray bytes.
        printed.append((folder / f"out.stats.{report}").read_text(errors="replace"))
    match = re.search(r"# segs: (\d+)\).*\(mean: *(\S+)\).*\(Z Stat: *(\S+)\)", printed[0])
    p = re.search(r"\|\s+MP\s+\|\|[^|]*\|[^|]*\|\s*\S+\s+<?([.0-9]+)", printed[1])
    assert match
    assert p
    return int(match[1]), float(match[2]), float(match[3]), float(p[1])
