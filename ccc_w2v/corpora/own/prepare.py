"""A folder of recordings -> OUT: everything that pre-training and fine-tuning read.

audio/               mono FLAC of 16 bits at one sample rate
pretrain.tsv         all audio of the training speakers, transcribed or not
{train,dev,test}.tsv with .wrd and .ltr beside them: what is transcribed; without any transcript, dev.tsv alone
dict.ltr.txt         the letters
manifest.json        the settings, and what they came to
"""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from ccc_w2v.corpora.labels import ranked_letters, write_dictionary, write_labels
from ccc_w2v.corpora.own.recordings import (
    Clip,
    convert,
    cut_long,
    duration,
    find_recordings,
    join,
    refuse_unreadable,
    target_names,
)
from ccc_w2v.corpora.own.splits import PreparedLists, split_by_speaker
from ccc_w2v.corpora.own.transcripts import RULES, beside, normalized, read_table
from ccc_w2v.data.manifest import write_manifest
from ccc_w2v.errors import InputError
from ccc_w2v.files import sha256, write_whole
from ccc_w2v.run_folder import SETTINGS_KEY, Output, claim, keep_record
from ccc_w2v.sharding import Shard, shard_folder, shards_folder

# Shorter clips hold less than a frame of some networks, and nothing to learn from.
SHORTEST_SECONDS = 0.2
CUTS = "cuts.json"  # of a shard: where its long recordings were cut
Item = TypeVar("Item")
Edge = tuple[float, float]


@dataclass(frozen=True)
class ManifestOptions:
    """What decides the content of OUT; see `ccc-w2v manifest --help`."""

    transcripts: str = ""
    sample_rate: int = 16_000
    speakers: str = "folder"
    dev: float = 0.1
    test: float = 0.1
    longest_seconds: float = 30.0
    text: str = "simple"
    seed: int = 0


def prepare(
    folder: str | Path,
    out: str | Path,
    options: ManifestOptions,
    *,
    leave_out_bad: bool = False,
    overwrite: bool = False,
    workers: int = 1,
) -> PreparedLists:
    """Convert a folder's recordings and write the lists; a call that was stopped continues with the same settings.

    Raises InputError for settings out of range, for what find_recordings, read_table and join refuse, and, without
    ``leave_out_bad``, for recordings that cannot be read.
    """
    out, bad = Path(out), list[str]()
    clips, output = _wanted(Path(folder), out, options, bad)
    notes = _notes(clips, options)
    clips = _cut(clips, options, _edges_of_shards(out, output.settings))
    split_of = _splits(clips, any(clip.text for clip in clips), options)
    _begin(output, overwrite=overwrite)
    samples = _converted(clips, target_names(clips), out / "audio", options.sample_rate, bad, workers)
    refuse_unreadable(bad, leave_out_bad)
    notes += [f"left out: {line}" for line in bad]
    lists = _write_lists(out, clips, samples, split_of, options)
    prepared = PreparedLists(lists, notes)
    content = {SETTINGS_KEY: output.settings, "lists": lists, "notes": notes}
    write_whole(out / "manifest.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return prepared


def convert_share(
    folder: str | Path,
    out: str | Path,
    options: ManifestOptions,
    shard: Shard,
    *,
    leave_out_bad: bool = False,
    overwrite: bool = False,
    workers: int = 1,
) -> tuple[tuple[int, int], dict[str, Any]]:
    """Convert one shard's recordings; ``prepare`` then finds them, and writes the lists.

    Returns how many recordings of how many, and the settings that all shards have in common. Raises InputError as
    prepare does, and where there are more shards than recordings.
    """
    out, bad = Path(out), list[str]()
    clips, output = _wanted(Path(folder), out, options, bad)
    seconds: dict[str, float] = defaultdict(float)
    for clip in clips:
        seconds[clip.name] += clip.seconds
    names = set(shard.take(list(seconds), [round(1000 * length) for length in seconds.values()]))
    own = [clip for clip in clips if clip.name in names]
    cut = _cut(own, options, {})
    _begin(output, overwrite=overwrite)
    _converted(cut, target_names(cut, clips), out / "audio", options.sample_rate, bad, workers)
    refuse_unreadable(bad, leave_out_bad)
    edges: dict[str, list[tuple[float, float]]] = defaultdict(list)
    uncut = {clip.name for clip in own if clip.start is not None}
    for clip in cut:
        if clip.start is not None and clip.end is not None and clip.name not in uncut:
            edges[clip.name].append((clip.start, clip.end))
    place = shard_folder(out, shard)
    place.mkdir(parents=True, exist_ok=True)
    content = {SETTINGS_KEY: output.settings, "cut": edges}
    write_whole(place / CUTS, json.dumps(content, ensure_ascii=False) + "\n")
    return (len(names), len(seconds)), dict(output.settings)


def _wanted(folder: Path, out: Path, options: ManifestOptions, bad: list[str]) -> tuple[list[Clip], Output]:
    """Return the clips of a folder's readable recordings, uncut, and the output that they are for."""
    _check(options)
    recordings = [path for path in find_recordings(folder) if out.resolve() not in path.resolve().parents]
    if not recordings:
        raise InputError(f"{folder}: holds no audio but that of {out}; name the folder of your recordings")
    segments = read_table(options.transcripts) if options.transcripts else beside(recordings, folder)
    readable, clips = _joined(recordings, folder, segments, options, bad)
    return clips, Output(out, _settings(folder, readable, options), out / "manifest.json", [out / "audio"])


def _begin(output: Output, *, overwrite: bool) -> None:
    claim(output, overwrite=overwrite)
    output.name.mkdir(parents=True, exist_ok=True)
    keep_record(output)


def _cut(clips: Sequence[Clip], options: ManifestOptions, edges: Mapping[str, Sequence[Edge]]) -> list[Clip]:
    cut = cut_long(clips, options.longest_seconds, edges)
    return [clip for clip in cut if clip.seconds >= SHORTEST_SECONDS]


def _edges_of_shards(out: Path, settings: Mapping[str, Any]) -> dict[str, list[Edge]]:
    """Return where shards of the same settings have cut long recordings, which decoding all of them has told."""
    edges: dict[str, list[Edge]] = {}
    for path in shards_folder(out).glob(f"*/{CUTS}"):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content[SETTINGS_KEY] == json.loads(json.dumps(dict(settings))):
            edges |= {name: [(start, end) for start, end in pairs] for name, pairs in content["cut"].items()}
    return edges


def _check(options: ManifestOptions) -> None:
    if options.text not in RULES:
        raise InputError(f"--text {options.text}: unknown rules; available: {', '.join(RULES)}")
    if options.sample_rate < 1000 or options.longest_seconds < 1:
        raise InputError("--sample-rate must be 1000 Hz or more, --max-seconds 1 or more")
    if min(options.dev, options.test) < 0 or options.dev + options.test >= 1:
        raise InputError("--dev and --test are shares of the audio: 0 or more, less than 1 together")


def _joined(
    recordings: Sequence[Path], folder: Path, segments: Sequence[Any], options: ManifestOptions, bad: list[str]
) -> tuple[list[Path], list[Clip]]:
    """Return the recordings that can be opened and their clips; the others' errors go to ``bad``."""
    readable = [path for path in recordings if _tried(functools.partial(duration, path), bad) is not None]
    if not readable:
        raise InputError(bad[0])
    unreadable = set(recordings) - set(readable)
    names = {name for path in unreadable for name in (path.relative_to(folder).as_posix(), path.name, path.stem)}
    return readable, join(readable, folder, [line for line in segments if line.path not in names], options.speakers)


def _tried(attempt: Callable[[], Item], bad: list[str]) -> Item | None:
    try:
        return attempt()
    except InputError as error:
        bad.append(str(error))
        return None


def _notes(clips: Sequence[Clip], options: ManifestOptions) -> list[str]:
    long = [clip for clip in clips if clip.seconds > options.longest_seconds and clip.start is None]
    labelled = [clip for clip in long if clip.text is not None]
    notes = []
    if long:
        notes.append(f"{len(long)} recordings longer than {options.longest_seconds:g} s are cut at pauses")
    if labelled:
        notes.append(
            f"{len(labelled)} of them have a transcript without times, as {labelled[0].name}: their parts serve "
            "pre-training alone; give start and end columns to use them for fine-tuning"
        )
    digits = [clip for clip in clips if clip.text and any(character.isdigit() for character in clip.text)]
    if digits:
        notes.append(f"{len(digits)} transcripts hold digits, as that of {digits[0].name}: spell numbers out")
    empty = [clip for clip in clips if clip.text is not None and not normalized(clip.text, options.text)]
    if empty:
        notes.append(f"{len(empty)} transcripts hold no word, as that of {empty[0].name}: for pre-training alone")
    if len({clip.speaker for clip in clips}) == len(clips) and len(clips) > 2:
        notes.append("every recording counts as a speaker of its own: name speakers with --speakers if it is not so")
    return notes


def _settings(folder: Path, recordings: Sequence[Path], options: ManifestOptions) -> dict[str, Any]:
    listing = {path.relative_to(folder).as_posix(): path.stat().st_size for path in recordings}
    content = sha256(options.transcripts) if options.transcripts else ""
    return {**asdict(options), "transcripts": content, "folder": str(folder.resolve()), "recordings": listing}


def _converted(
    clips: Sequence[Clip], names: Sequence[str], audio: Path, sample_rate: int, bad: list[str], workers: int
) -> list[int | None]:
    def converted(position: int) -> int | None:
        return _tried(lambda: convert(clips[position], audio / names[position], sample_rate), bad)

    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        return list(tqdm(pool.map(converted, range(len(clips))), total=len(clips), desc="converting", unit="file"))


def _write_lists(
    out: Path, clips: Sequence[Clip], samples: Sequence[int | None], split_of: dict[str, str], options: ManifestOptions
) -> dict[str, dict[str, float]]:
    lines = [
        (clip, name, count, normalized(clip.text or "", options.text))
        for clip, name, count in zip(clips, target_names(clips), samples, strict=True)
        if count is not None
    ]
    transcribed = any(text for *_, text in lines)
    lists = defaultdict(list)
    for line in lines:
        split = line[0].split or split_of[line[0].speaker]
        if split == "train":
            lists["pretrain"].append(line)
        if line[3] or (split == "dev" and not transcribed):
            lists[split].append(line)
    for name, content in lists.items():
        write_manifest(out / f"{name}.tsv", (out / "audio").resolve(), [(path, count) for _, path, count, _ in content])
        if transcribed and name != "pretrain":
            write_labels(out / f"{name}.tsv", [text for *_, text in content])
    if transcribed:
        held_out = [text for name in ("dev", "test") for *_, text in lists[name]]
        write_dictionary(out / "dict.ltr.txt", ranked_letters([text for *_, text in lists["train"]], held_out))
    return {
        name: {
            "utterances": len(content),
            "hours": round(sum(count for _, _, count, _ in content) / options.sample_rate / 3600, 4),
            "speakers": len({clip.speaker for clip, *_ in content}),
        }
        for name, content in lists.items()
        if content
    }


def _splits(clips: Sequence[Clip], transcribed: bool, options: ManifestOptions) -> dict[str, str]:
    """Return each speaker's split, drawn among those who have what a split needs: transcripts, where there are any."""
    seconds: dict[str, float] = defaultdict(float)
    for clip in clips:
        if not clip.split and (not transcribed or (clip.text and normalized(clip.text, options.text))):
            seconds[clip.speaker] += clip.seconds
    if any(clip.split for clip in clips):
        # Who is in a split by name is nowhere else; all that no column splits is for training.
        fixed = {clip.speaker: clip.split for clip in clips if clip.split}
        return {**{clip.speaker: "train" for clip in clips}, **fixed}
    shares = {"dev": options.dev, "test": options.test if transcribed else 0.0}
    split_of = split_by_speaker(seconds, shares, options.seed)
    return {**{clip.speaker: "train" for clip in clips}, **split_of}
