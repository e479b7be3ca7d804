"""A folder of long recordings -> OUT: manifests of their segments, which stay where they are.

pretrain.tsv, dev.tsv   segments, file:start:samples, of the recordings that train and of those held out
segments.jsonl          what was heard in each recording: a call that was stopped continues after its last line
segments.json           the settings, and what they came to
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ccc_w2v.corpora.long.segments import SegmentLimits, segments
from ccc_w2v.corpora.long.speech import detector_of, listen
from ccc_w2v.corpora.own.recordings import find_recordings, refuse_unreadable, speaker_of
from ccc_w2v.corpora.own.splits import PreparedLists, split_by_speaker
from ccc_w2v.data.audio import MP3_JUMPS_FROM
from ccc_w2v.data.manifest import write_manifest
from ccc_w2v.data.slices import Slice, slice_of
from ccc_w2v.errors import InputError
from ccc_w2v.files import complete_lines, write_whole
from ccc_w2v.run_folder import SETTINGS_KEY, Output, claim, keep_record
from ccc_w2v.sharding import Shard, ShardRecord, keep_shard, read_shards, shard_folder

COMMAND = "segment"
HEARD = "segments.jsonl"
SUMMARY = "segments.json"
LISTS = ("pretrain", "dev")


@dataclass(frozen=True)
class SegmentOptions:
    """What decides the content of OUT; see `ccc-w2v segment --help`."""

    detector: str = "auto"
    limits: SegmentLimits = field(default_factory=SegmentLimits)
    speakers: str = "recording"
    dev: float = 0.01
    sample_rate: int = 16_000
    seed: int = 0


@dataclass(frozen=True)
class HeardRecording:
    """What was heard in one recording: its path below the folder, its format, its segments as (start, samples)."""

    name: str
    samples: int
    rate: int
    channels: int
    format: str
    segments: list[list[int]]
    problem: str = ""


def segment_folder(
    folder: str | Path,
    out: str | Path,
    options: SegmentOptions,
    *,
    leave_out_bad: bool = False,
    overwrite: bool = False,
    workers: int = 1,
    shard: Shard | None = None,
) -> PreparedLists | None:
    """Find the segments of all recordings below a folder, and write the lists; a stopped call continues.

    With a ``shard`` only its share is heard and nothing is listed: returns None, and ``merge`` writes the lists. Raises
    InputError for settings out of range, and without ``leave_out_bad`` for a recording that cannot be read.
    """
    _check(options)
    folder, out = Path(folder).resolve(), Path(out)
    recordings = [path for path in find_recordings(folder) if out.resolve() not in path.resolve().parents]
    if not recordings:
        raise InputError(f"{folder}: holds no audio but that of {out}; name the folder of your recordings")
    settings = _settings(folder, recordings, options, leave_out_bad)
    sizes = [path.stat().st_size for path in recordings]
    place = shard_folder(out, shard) if shard else out
    share = shard.take(recordings, sizes) if shard else recordings
    written = [place / name for name in (HEARD, *(f"{name}.tsv" for name in LISTS))]
    if not claim(Output(place, settings, place / SUMMARY, written), overwrite=overwrite):
        place.mkdir(parents=True, exist_ok=True)
        keep_record(Output(place, settings, place / SUMMARY, written))
    heard = _heard(folder, share, place / HEARD, settings["detector"], options.limits, workers)
    refuse_unreadable([recording.problem for recording in heard if recording.problem], leave_out_bad)
    if shard is None:
        return _write(out, folder, heard, options, settings)
    record = ShardRecord(COMMAND, shard.number, shard.count, len(share), len(recordings), settings, asdict(options))
    keep_shard(place, record)
    return None


def merge(out: Path, *, overwrite: bool = False) -> PreparedLists:
    """Write the lists from what all shards have heard; raises InputError as read_shards and claim do."""
    shards = read_shards(out)
    record = shards[0][1]
    heard = [line for place, _ in shards for line in read_heard(place / HEARD).values()]
    if len(heard) != record.all_items:
        raise InputError(f"{out}: its shards heard {len(heard)} of {record.all_items} recordings; run them again")
    options = SegmentOptions(**{**record.options, "limits": SegmentLimits(**record.options["limits"])})
    settings = dict(record.of)
    output = Output(out, settings, out / SUMMARY, [out / HEARD, *(out / f"{name}.tsv" for name in LISTS)])
    claim(output, overwrite=overwrite)
    out.mkdir(parents=True, exist_ok=True)
    keep_record(output)
    write_whole(out / HEARD, "".join(_line(line) for line in heard))
    return _write(out, Path(settings["folder"]), heard, options, settings)


def _check(options: SegmentOptions) -> None:
    limits = options.limits
    if not 0 < limits.shortest < limits.longest or limits.longest < 1:
        raise InputError("--min-seconds must be above 0 and below --max-seconds, and that 1 or more")
    if not 0 < limits.pause <= limits.silence:
        raise InputError("--pause must be above 0 and not above --silence")
    if not 0 <= options.dev < 1 or options.sample_rate < 1000:
        raise InputError("--dev is a share of the audio, 0 or more and less than 1; --sample-rate 1000 Hz or more")


def _settings(folder: Path, recordings: Sequence[Path], options: SegmentOptions, leave_out_bad: bool) -> dict[str, Any]:
    listing = "".join(f"{path.relative_to(folder).as_posix()}\t{path.stat().st_size}\n" for path in recordings)
    return {
        **asdict(options),
        "detector": detector_of(options.detector),
        "leave_out_bad": leave_out_bad,
        "folder": str(folder),
        "recordings": hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest(),
    }


def _heard(
    folder: Path, recordings: Sequence[Path], journal: Path, detector: str, limits: SegmentLimits, workers: int
) -> list[HeardRecording]:
    """Hear all recordings that the journal does not hold yet; return what was heard, in order."""
    known = read_heard(journal)
    names = [path.relative_to(folder).as_posix() for path in recordings]
    todo = [name for name in names if name not in known]

    def hear(name: str) -> HeardRecording:
        if slice_of(name):
            return HeardRecording(name, 0, 0, 0, "", [], f"{folder / name}: its name looks like a segment; rename it")
        try:
            return _hear(folder, name, detector, limits)
        except InputError as error:
            return HeardRecording(name, 0, 0, 0, "", [], str(error))

    with ThreadPoolExecutor(max(1, workers)) as pool, open(journal, "a", encoding="utf-8") as lines:
        for recording in tqdm(pool.map(hear, todo), total=len(todo), desc="segmenting", unit="file"):
            known[recording.name] = recording
            if not recording.problem:  # it may be repaired before the next call
                lines.write(_line(recording))
                lines.flush()
    return [known[name] for name in names]


def _hear(folder: Path, name: str, detector: str, limits: SegmentLimits) -> HeardRecording:
    heard = listen(folder / name, detector, limits.pause)
    regions = segments(heard.speech, heard.level_T, heard.samples / heard.rate, limits)
    edges = [(round(start * heard.rate), min(round(end * heard.rate), heard.samples)) for start, end in regions]
    rows = [[first, last - first] for first, last in edges]
    return HeardRecording(name, heard.samples, heard.rate, heard.channels, heard.format, rows)


def read_heard(journal: Path) -> dict[str, HeardRecording]:
    """Return what a journal holds, by name; half a line at its end is cut off, and heard again."""
    if not journal.is_file():
        return {}
    complete = complete_lines(journal)
    try:
        lines = [HeardRecording(**json.loads(line)) for line in complete.splitlines()]
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{journal}: not what ccc-w2v segment writes ({error}); give --overwrite to begin again"
        ) from error
    os.truncate(journal, len(complete))
    return {line.name: line for line in lines}


def _line(recording: HeardRecording) -> str:
    return json.dumps(asdict(recording), ensure_ascii=True) + "\n"


def _write(
    out: Path, folder: Path, heard: Sequence[HeardRecording], options: SegmentOptions, settings: Mapping[str, Any]
) -> PreparedLists:
    split_of = _splits(heard, options)
    chosen: dict[str, list[HeardRecording]] = {name: [] for name in LISTS}
    for recording in heard:
        if recording.segments:
            split = split_of[speaker_of(recording.name, options.speakers)]
            chosen["pretrain" if split == "train" else split].append(recording)
    if not any(chosen.values()):
        raise InputError(f"{folder}: no speech of {options.limits.shortest:g} s or more was found in any recording")
    lists = {}
    for name, recordings in chosen.items():
        if recordings:
            write_manifest(out / f"{name}.tsv", folder, _lines(recordings))
            lists[name] = {
                "recordings": len(recordings),
                "segments": sum(len(recording.segments) for recording in recordings),
                "hours": round(sum(map(_speech_hours, recordings)), 4),
            }
    segmented = PreparedLists(lists, list(_notes(heard, options)))
    content = {SETTINGS_KEY: settings, "lists": lists, "notes": segmented.notes}
    write_whole(out / SUMMARY, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return segmented


def _lines(recordings: Sequence[HeardRecording]) -> Iterator[tuple[str, int]]:
    for recording in recordings:
        for start, samples in recording.segments:
            yield str(Slice(recording.name, start, samples)), samples


def _speech_hours(recording: HeardRecording) -> float:
    return sum(samples for _, samples in recording.segments) / recording.rate / 3600


def _splits(heard: Sequence[HeardRecording], options: SegmentOptions) -> dict[str, str]:
    """Return each speaker's split: dev has about its share of the hours of speech."""
    seconds: dict[str, float] = {}
    for recording in heard:
        if recording.segments:
            speaker = speaker_of(recording.name, options.speakers)
            seconds[speaker] = seconds.get(speaker, 0.0) + 3600 * _speech_hours(recording)
    if options.dev and len(seconds) == 1:
        raise InputError(
            "speech of one recording alone (by --speakers) cannot both train and be held out; add recordings, or set "
            "--dev 0 and name another validation set"
        )
    return split_by_speaker(seconds, {"dev": options.dev}, options.seed)


def _notes(heard: Sequence[HeardRecording], options: SegmentOptions) -> Iterator[str]:
    good = [recording for recording in heard if not recording.problem]
    hours = sum(recording.samples / recording.rate for recording in good) / 3600
    speech = sum(map(_speech_hours, good))
    yield f"{len(good)} recordings of {hours:.2f} h: {speech:.2f} h in segments, the rest is silence or no speech"
    for recording in heard:
        if recording.problem:
            yield f"left out: {recording.problem}"
    other = [line for line in good if line.rate != options.sample_rate or line.channels != 1]
    if other:
        yield (
            f"{len(other)} recordings are not mono at {options.sample_rate} Hz, as {other[0].name}: pre-train with "
            "+task.resample=true"
        )
    slow = [line for line in good if line.format == "MP3" and line.rate < MP3_JUMPS_FROM]
    if slow:
        yield (
            f"{len(slow)} recordings are MP3 below {MP3_JUMPS_FROM} Hz, as {slow[0].name}: each segment costs the "
            "decoding of all before it; convert them to FLAC once"
        )
