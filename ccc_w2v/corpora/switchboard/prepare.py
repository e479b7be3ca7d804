"""Switchboard-1: conversations by telephone, the training data of most work on spontaneous English speech.

Collected at Texas Instruments in 1990 and 1991 by a robot operator that connected strangers and gave them one of 70
topics: 543 speakers, 2,438 calls of six minutes, each side recorded by itself at 8 kHz, mu-law. LDC sells the audio
(LDC97S62, release 2 of 1997, on 23 CD-ROMs, 4 DVDs or a disk). The transcripts were corrected and segmented again at
Mississippi State University until 2003 and are free (OpenSLR 5). Text rules and lists are those of Kaldi's recipe,
which most papers follow: see switchboard_text.py and switchboard_lists.py. The test sets are in hub5.py.

What `prepare` writes into a folder, manifests in fairseq's format:
    audio/sw02001.zip (or sw02001/*.flac)       the segments of a call, mono, 16 kHz (resampled once), FLAC
    {dev,train_nodup,train_100k_nodup,train_30h}.{tsv,wrd,ltr}, dict.ltr.txt
    pretrain.tsv, pretrain_valid.tsv            without labels
    lm.txt                                      words of all utterances but dev's, and of Fisher where it is given
    utterances.tsv                              id, speaker, start, end and text of every utterance, as in Kaldi
    eval2000.*, rt03.*                          see hub5.py
    done.json                                   what was asked for, counts, every difference from what is published
    download/                                   what was fetched
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccc_w2v.corpora.switchboard import hub5
from ccc_w2v.corpora.switchboard.figures import differences, table
from ccc_w2v.corpora.switchboard.lists import DEV, FIRST
from ccc_w2v.corpora.switchboard.train import read_corpus, write_corpus, write_share
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.errors import InputError
from ccc_w2v.files import write_whole
from ccc_w2v.sharding import Shard

# Raised with every change of the rules, so that a folder of older rules is prepared again.
RULES = 1
# Takes the number of workers; returns counts by list, and what differs in words.
Writer = Callable[[int | None], tuple[dict[str, dict[str, float]], list[str]]]


@dataclass(frozen=True)
class Options:
    """What to prepare: folders of LDC's sets (None: leave that part out), and how."""

    train: str | None = None
    transcripts: str | None = None
    eval2000_audio: str | None = None
    eval2000_text: str | None = None
    rt03: str | None = None
    fisher: tuple[str, ...] = ()
    keep_noises: bool = False
    zipped: bool = True
    dev: int = DEV
    first: int = FIRST


def prepare(out: str | Path, options: Options, *, url: str | None = None, workers: int | None = None) -> dict[str, Any]:
    """Prepare the parts asked for in ``out`` and print the counts; returns done.json, one entry for each part.

    A part that was prepared with the same options is passed over; what a stopped call left is taken up. Raises
    InputError for anything wrong with the input, before anything but the transcripts' download is written.
    """
    out = Path(out).resolve()
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; --out takes the folder to prepare the corpus in")
    if (options.eval2000_audio is None) != (options.eval2000_text is None):
        raise InputError("Hub5'00 takes both: --eval2000-audio (LDC2002S09) and --eval2000-text (LDC2002T43)")
    parts = _parts(options)
    if not parts:
        raise InputError("nothing to prepare; give --train, --eval2000-audio and --eval2000-text, or --rt03")
    done = _read_done(out)
    writers = {}
    for part, asked in parts.items():
        if done.get(part, {}).get("options") == asked and _still_there(out, done[part]["counts"]):
            print(f"{out}: {part} prepared already; nothing to do")
        else:
            writers[part] = _read_part(part, out, options, url)
    for part, write in writers.items():
        if done.pop(part, None):
            write_whole(out / "done.json", json.dumps(done, indent=1) + "\n")
        counts, differing = write(workers)
        differing += differences(counts)
        print(table(counts))
        print("\n".join(f"differs: {line}" for line in differing) or "no difference from the published figures")
        done[part] = {"options": parts[part], "counts": counts, "differences": differing}
        write_whole(out / "done.json", json.dumps(done, indent=1) + "\n")
    return done


def convert_share(
    out: str | Path, options: Options, shard: Shard, workers: int | None = None
) -> tuple[tuple[int, int], dict[str, Any]]:
    """Cut one shard's calls of Switchboard-1; ``prepare`` then finds them, and does the rest.

    Returns how many calls of how many, and what all shards have in common. Raises InputError as prepare does, and
    without folders of the audio and its transcripts, which every shard would fetch.
    """
    if options.train is None or options.transcripts is None:
        raise InputError("--shard shares the calls of Switchboard-1: give --train and --transcripts")
    out = Path(out).resolve()
    corpus = read_corpus(
        Path(options.train),
        options.transcripts,
        (),
        downloads=out / "download",
        keep_noises=options.keep_noises,
        dev=options.dev,
        first=options.first,
    )
    return write_share(out, corpus, shard, zipped=options.zipped, workers=workers), _parts(options)


def _parts(options: Options) -> dict[str, dict[str, Any]]:
    """Return what each part depends on."""
    folders = {
        "train": [options.train, options.transcripts, *options.fisher],
        "eval2000": [options.eval2000_audio, options.eval2000_text],
        "rt03": [options.rt03],
    }
    made = {"train": [options.keep_noises, options.zipped, options.dev, options.first]}
    return {
        part: {
            "folders": [folder and str(Path(folder).resolve()) for folder in part_folders],
            "how": [RULES, *made.get(part, [])],
        }
        for part, part_folders in folders.items()
        if part_folders[0] is not None
    }


def _read_done(out: Path) -> dict[str, Any]:
    try:
        return json.loads((out / "done.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def _still_there(out: Path, counts: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether every list of a part, and every file of audio that one names, is there; a moved folder's is not."""
    try:
        manifests = [read_manifest(out / f"{name}.tsv") for name in counts if name != "all"]
    except InputError:
        return False
    # Manifests hold absolute paths: a folder that was moved is prepared again.
    paths = {manifest.audio_path(entry) for manifest in manifests for entry in manifest.entries}
    files = {Path(re.sub(r"(?<=\.zip):\d+:\d+$", "", path)) for path in paths}
    return all(Path(manifest.root).is_relative_to(out) for manifest in manifests) and all(map(Path.is_file, files))


def _read_part(part: str, out: Path, options: Options, url: str | None) -> Writer:
    """Read and judge a part; return what writes it, given the number of workers."""
    if part == "train":
        corpus = read_corpus(
            Path(str(options.train)),
            options.transcripts,
            options.fisher,
            downloads=out / "download",
            url=url,
            keep_noises=options.keep_noises,
            dev=options.dev,
            first=options.first,
        )
        return lambda workers: (
            write_corpus(out, corpus, zipped=options.zipped, workers=workers),
            list(corpus.differences),
        )
    if part == "eval2000":
        test_set = hub5.find_eval2000(str(options.eval2000_audio), str(options.eval2000_text))
    else:
        test_set = hub5.find_rt03(str(options.rt03))
    references = hub5.read(test_set)
    return lambda workers: (hub5.write(out, references, workers), list(references.differences))
