"""Hub5'00 and RT-03: the telephone calls that recognisers are compared on.

NIST's evaluation of 2000 (LDC2002S09, transcripts in LDC2002T43) has 20 calls that were left over from Switchboard and
20 from CallHome English, between relatives, which are twice as hard. RT-03 (LDC2007S10) has 72 of Switchboard's later
phases and of Fisher. What is scored is said by an .stm file; its words are judged by NIST's rules (.glm), not compared
as they stand, so the .wrd beside a manifest is for a quick look only.

What `write` leaves in a folder, NAME being eval2000 or rt03:
    audio/NAME/<call>/<side and times>.flac     the scored segments, padded by 0.1 s, 16 kHz
    NAME.{tsv,wrd}, NAME_<half>.{tsv,wrd}       manifests; ids as Kaldi's (rounded times), sw_4390-A_000098-001156
    NAME.stm, NAME.glm                          the reference, with what hubscr stumbles over corrected, and the rules
    NAME.segments                               lines of utterance-id call side start end (padded), to time hyp.ctm
    NAME.speakers                               lines of utterance-id side, for ccc-w2v score --groups
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ccc_w2v.corpora.switchboard.audio import SAMPLE_RATE, Excerpt, excerpt_name, look_at_calls, samples_of, write_calls
from ccc_w2v.corpora.switchboard.source import files_below
from ccc_w2v.corpora.switchboard.sphere import SIDES, Call
from ccc_w2v.corpora.switchboard.text import label_words
from ccc_w2v.data.cuts import Cut, write_cuts
from ccc_w2v.data.manifest import write_manifest
from ccc_w2v.data.stm import Definition, Segment, nist_lines, read_stm, write_stm
from ccc_w2v.errors import InputError
from ccc_w2v.files import write_whole

PADDING_SECONDS = 0.1
# By the first letters of a call's name.
HALVES = {"eval2000": {"sw": "swbd", "en": "callhome"}, "rt03": {"sw": "swbd", "fsh": "fisher"}}
_ALTERNATIVES = re.compile(r"\{([^/}]*)/[^}]*\}")
_ASIDE = re.compile(r"<[BE]_ASIDE>", re.IGNORECASE)
_MARKS = re.compile(r"<[^>]*>|\(?%\w+\)?|[()@]")
_CHANNELS = {"1": "A", "2": "B"} | {side: side for side in SIDES}


@dataclass(frozen=True)
class Evaluation:
    """Where the parts of an evaluation are: its calls by name, its reference, its rules, its list of segments."""

    name: str
    folder: Path
    calls: Mapping[str, Path]
    references: Sequence[Path]
    rules: Path
    segments: Path | None = None


def find_eval2000(audio: str | Path, text: str | Path) -> Evaluation:
    """Find Hub5'00 in the folders of LDC2002S09 and LDC2002T43, however deep; raises InputError for what is missing."""
    recorded, written = list(files_below(audio)), list(files_below(text))
    calls = _calls(audio, recorded, "english", "LDC2002S09 (hub5e_00/english/*.sph)")
    reference = _named(written, "hub5e00.english.000405.stm")
    rules = _named(written, "en20000405_hub5.glm")
    listed = _named(recorded, "hub5e_00.pem")
    return Evaluation(
        "eval2000",
        Path(audio),
        calls,
        [_needed(reference, text, "LDC2002T43 (reference/hub5e00.english.000405.stm)")],
        _needed(rules, text, "LDC2002T43 (reference/en20000405_hub5.glm)"),
        listed,
    )


def find_rt03(folder: str | Path) -> Evaluation:
    """Find the English telephone calls of RT-03 in the folder of LDC2007S10; raises InputError for what is missing."""
    files = list(files_below(folder))
    calls = _calls(folder, files, "english/cts", "LDC2007S10 (data/audio/eval03/english/cts/*.sph)")
    references = [path for path in files if path.suffix.lower() == ".stm" and _inside(path, "english/cts")]
    if not references:
        raise InputError(f"{folder}: lacks data/references/eval03/english/cts/*.stm; copy LDC2007S10 whole")
    rules = _named(files, "en20030506.glm")
    expected = "LDC2007S10 (data/trans_rules/en20030506.glm)"
    return Evaluation("rt03", Path(folder), calls, references, _needed(rules, folder, expected))


def _inside(path: Path, below: str) -> bool:
    return path.parent.as_posix().lower().endswith(below)


def _calls(folder: str | Path, files: Sequence[Path], below: str, expected: str) -> dict[str, Path]:
    calls = {path.stem: path for path in files if path.suffix.lower() == ".sph" and _inside(path, below)}
    if not calls:
        raise InputError(f"{folder}: holds no {below}/*.sph; expected {expected}")
    return calls


def _named(files: Sequence[Path], name: str) -> Path | None:
    return next((path for path in files if path.name.lower() == name.lower()), None)


def _needed(path: Path | None, folder: str | Path, expected: str) -> Path:
    if path is None:
        raise InputError(f"{folder}: incomplete; expected {expected}")
    return path


@dataclass(frozen=True)
class References:
    """An evaluation, read and judged before anything of it is written: the scored segments by id, all segments."""

    evaluation: Evaluation
    scored: Mapping[str, tuple[Segment, Excerpt]]
    segments: Sequence[Segment]
    definitions: Sequence[Definition]
    calls: Mapping[str, Call]
    differences: list[str]


def read(evaluation: Evaluation) -> References:
    """Read references and headers of an evaluation.

    Raises InputError for a call without audio, a segment that runs past it, and as read_references does.
    """
    segments, definitions = read_references(evaluation.references)
    if absent := sorted({segment.recording for segment in segments} - set(evaluation.calls)):
        raise InputError(
            f"{evaluation.folder}: lacks the audio of {len(absent)} calls of the reference "
            f"({', '.join(absent[:4])}); copy the disc whole"
        )
    scored = {segment_id(segment): (segment, excerpt) for segment, excerpt in padded(segments) if not segment.ignored}
    calls = look_at_calls(evaluation.calls, _excerpts(scored))
    return References(evaluation, scored, segments, definitions, calls, _listed_otherwise(evaluation, segments))


def write(out: Path, references: References, workers: int | None = None) -> dict[str, dict[str, float]]:
    """Write an evaluation into ``out`` (see the module); returns counts by list."""
    name, scored = references.evaluation.name, references.scored
    audio = out / "audio" / name
    paths = write_calls(audio, references.calls, _excerpts(scored), zipped=False, workers=workers)
    counts = {}
    for half, title in {"": name, **{half: f"{name}_{title}" for half, title in HALVES[name].items()}}.items():
        listed = [utterance for utterance in sorted(scored) if utterance.startswith(half)]
        if not listed:
            continue
        lengths = (
            samples_of(scored[utterance][1], references.calls[scored[utterance][0].recording]) for utterance in listed
        )
        entries = [(paths[utterance], end - start) for utterance, (start, end) in zip(listed, lengths, strict=True)]
        texts = [scored[utterance][0].text for utterance in listed]
        write_whole(out / f"{title}.wrd", "".join(f"{quick_words(text)}\n" for text in texts))
        write_manifest(out / f"{title}.tsv", audio, entries)
        counts[title] = {
            "calls": len({scored[utterance][0].recording for utterance in listed}),
            "segments": len(listed),
            "hours": sum(samples for _, samples in entries) / SAMPLE_RATE / 3600,
            "words": sum(len(_ALTERNATIVES.sub(r"\1", text).split()) for text in texts),
        }
    _write_references(out / name, references)
    return counts


def _excerpts(scored: Mapping[str, tuple[Segment, Excerpt]]) -> dict[str, list[Excerpt]]:
    excerpts: dict[str, list[Excerpt]] = {}
    for segment, excerpt in scored.values():
        excerpts.setdefault(segment.recording, []).append(excerpt)
    return excerpts


def _write_references(stem: Path, references: References) -> None:
    """Write NAME.stm, .glm, .segments and .speakers."""
    rows = [(utterance, *references.scored[utterance]) for utterance in sorted(references.scored)]
    write_stm(stem.with_suffix(".stm"), references.segments, references.definitions)
    write_whole(stem.with_suffix(".glm"), references.evaluation.rules.read_bytes())
    places = (
        Cut(utterance, segment.recording, excerpt.side, excerpt.start, excerpt.end)
        for utterance, segment, excerpt in rows
    )
    write_cuts(stem.with_suffix(".segments"), places)
    speakers = (f"{utterance} {segment.recording}-{excerpt.side}\n" for utterance, segment, excerpt in rows)
    write_whole(stem.with_suffix(".speakers"), "".join(speakers))


def read_references(files: Sequence[Path]) -> tuple[list[Segment], list[Definition]]:
    """Read .stm files as one, channels 1 and 2 as A and B, without gaps and what NIST's hubscr stumbles over.

    Those are doubled parentheses and the marks of speech to somebody else (<B_ASIDE>). Raises InputError as read_stm
    does, for a channel of another name, and for two segments of one side with the same times.
    """
    segments: dict[str, Segment] = {}
    definitions: dict[tuple[str, str], Definition] = {}
    for stm in map(read_stm, files):
        definitions |= {(definition.kind, definition.id): definition for definition in stm.definitions}
        for segment in stm.segments:
            if segment.speaker == "inter_segment_gap" or segment.text == "inter_segment_gap":
                continue
            if segment.channel not in _CHANNELS:
                raise InputError(f"{stm.where(segment)}: channel {segment.channel!r}, expected one of 1, 2, A, B")
            text = " ".join(_ASIDE.sub(" ", segment.text).replace("((", "(").replace("))", ")").split())
            segment = dataclasses.replace(segment, channel=_CHANNELS[segment.channel], text=text)
            if segment_id(segment) in segments:
                raise InputError(f"{stm.where(segment)}: segment {segment_id(segment)} was there already; remove one")
            segments[segment_id(segment)] = segment
    return list(segments.values()), list(definitions.values())


def segment_id(segment: Segment) -> str:
    """Name a segment as Kaldi's recipe does, by its times before padding: sw_4390-A_000098-001156."""
    return f"{segment.recording}-{excerpt_name(segment.channel, segment.start, segment.end)}"


def padded(segments: Sequence[Segment]) -> list[tuple[Segment, Excerpt]]:
    """Give each segment 0.1 s more on both sides, of a shorter gap to a neighbour half, and none where they overlap."""
    problems = []
    order = sorted(segments, key=lambda segment: (segment.recording, segment.channel, segment.start))
    for index, segment in enumerate(order):
        gaps = []
        for first, second in ((index - 1, index), (index, index + 1)):
            inside = first >= 0 and second < len(order) and _side(order[first]) == _side(order[second])
            gaps.append(order[second].start - order[first].end if inside else math.inf)
        before, after = (max(0.0, min(PADDING_SECONDS, gap / 2)) for gap in gaps)
        name = excerpt_name(segment.channel, segment.start, segment.end)
        start = max(0.0, segment.start - before)
        problems.append((segment, Excerpt(name, segment.channel, start, segment.end + after, segment_id(segment))))
    return problems


def _side(segment: Segment) -> tuple[str, str]:
    return segment.recording, segment.channel


def quick_words(text: str) -> str:
    """Return a reference's words as a model writes them: first alternatives, no hesitations, F. B. I. as F B I."""
    return label_words(_MARKS.sub(" ", _ALTERNATIVES.sub(r"\1", text)).lower(), keep_noises=False)


def _listed_otherwise(evaluation: Evaluation, segments: Sequence[Segment]) -> list[str]:
    """Compare the reference's segments with NIST's list of what to recognise (.pem); say what differs."""
    if evaluation.segments is None:
        return []
    listed = set()
    for number, line in nist_lines(evaluation.segments, ".pem"):
        if not line.strip() or line.startswith(";;"):
            continue
        try:
            call, channel, _, start, end = line.split()
            listed.add(f"{call}-{excerpt_name(_CHANNELS[channel], float(start), float(end))}")
        except (ValueError, KeyError) as error:
            where = f"{evaluation.segments}:{number}"
            raise InputError(f"{where}: expected call channel speaker start end, found {line[:60]!r}") from error
    named = set(map(segment_id, segments))
    both = ((named - listed, "in the .stm only"), (listed - named, "in the .pem only"))
    return [f"{len(only)} segments {where}: {', '.join(sorted(only)[:3])}" for only, where in both if only]
