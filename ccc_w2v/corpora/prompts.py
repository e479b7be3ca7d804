"""The demo corpus: Asterisk's "core sounds" voice prompts, US English, one professional speaker, about 25 minutes.

Recorded by Allison Smith for the Asterisk telephone system from 2003 on and paid for by Digium; the collection grew
with each Asterisk release and has stood at 1.6.1 since 2018. It holds 568 prompts at 8 kHz, from single digits and
letters to a tour of 73 s, with the transcripts in core-sounds-en.txt; the licence is CC-BY-SA 3.0. The same prompts
exist in Spanish (the same speaker), French, Italian and Russian, of use here as unlabelled speech. It is small, public,
unchanging and real, which suits a demo. It is one voice reading menus: no word error rate on it says anything about
other speech, and near-duplicates ("press 8 to exit", "or 8 for more options") stand on both sides of its splits.

What `prepare` writes into a folder, manifests in fairseq's format:
    audio/en/**/*.flac                  mono, 16 kHz (resampled once from 8 kHz), 16 bit
    pretrain.tsv, pretrain_valid.tsv    all speech but the test set's, other languages included where asked for
    {train,valid,test}.{tsv,ltr,wrd}    the labelled prompts; dict.ltr.txt
    noise.tsv                           the English recordings that are no speech: tones, monkeys
    LICENSE.txt, done.json              licence and credits; what was done, and every prompt left out with the reason
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import torchaudio
from tqdm import tqdm

from ccc_w2v.corpora.prompt_labels import UnknownReading, read_transcripts, spoken_words, without_remarks
from ccc_w2v.corpora.prompt_licence import licence_text
from ccc_w2v.corpora.prompt_sources import LANGUAGES, UPSTREAM, Recordings, find_recordings
from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.manifest import Manifest, read_manifest, write_manifest, write_whole
from ccc_w2v.errors import InputError

SAMPLE_RATE = 16_000
LABELLED = ("train", "valid", "test")
MANIFESTS = ("pretrain", "pretrain_valid", *LABELLED, "noise")
TEST_SHARE, VALID_SHARE = 0.11, 0.05
# Chosen among twelve for splits of the same share in words as in utterances, before anything was trained on them.
SPLIT_SALT = "0"
MIN_SECONDS, MIN_NOISE_SECONDS, MAX_LABELLED_SECONDS = 0.3, 0.1, 35.0
# The speaker's own range with a margin: her slowest prompt has 3 letters per second (single letters, with the pauses
# around them), her fastest 16.5. Beyond it a transcript cannot be what was recorded.
MIN_LETTERS_PER_SECOND, MAX_LETTERS_PER_SECOND = 2.0, 20.0
# The silences of the collection are its noise floor: -84 dB of full scale, its quietest recording peaks at -19 dB.
SILENCE_PEAK = 0.001
# Not every language's transcripts say that these are silence, tones or monkeys.
_NOT_SPEECH = re.compile(r"silence/.*|beep|beeperr|(ascending|descending)-2tone|confbridge-(join|leave)|tt-monkeys")


@dataclass(frozen=True)
class Prompt:
    """One recording: its path below audio/, its source, its length, what it holds and, unless labelled, why not."""

    path: str
    source: Path
    seconds: float
    kind: str
    words: str
    unlabelled: str

    @property
    def split(self) -> str:
        """Return "train", "valid" or "test", from the words alone where there are any: equal words, equal split."""
        return split_of(self.words or self.path)


def split_of(words: str) -> str:
    """Return the split of a text: the same for the same text, in any version of the collection."""
    digest = hashlib.blake2b(f"{SPLIT_SALT}:{words}".encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64
    return "test" if place < TEST_SHARE else "valid" if place < TEST_SHARE + VALID_SHARE else "train"


def prepare(
    out: str | Path, *, source: str | Path | None = None, languages: tuple[str, ...] = (), upstream: str = UPSTREAM
) -> dict[str, Any]:
    """Fetch and prepare the corpus in ``out``; English always, more ``languages`` for pre-training. Returns done.json.

    A second call with the same options finds done.json and does nothing. Raises InputError for an unknown language and
    when no source gives the recordings.
    """
    began = time.monotonic()
    out = Path(out).resolve()
    if unknown := sorted(set(languages) - set(LANGUAGES)):
        raise InputError(f"unknown language '{unknown[0]}' of the voice prompts; available: {', '.join(LANGUAGES)}")
    wanted = ["en", *sorted(set(languages) - {"en"})]
    options = {"languages": wanted, "source": None if source is None else str(Path(source).resolve())}
    if (done := _finished(out, options)) is not None:
        print(f"{out}: prepared already, from {done['origin']['en']}; nothing to do")
        return done
    found = [find_recordings(language, out / "download", source, upstream) for language in wanted]
    prompts = [prompt for recordings in found for prompt in _prompts(recordings)]
    (out / "done.json").unlink(missing_ok=True)
    samples = _convert(out / "audio", [prompt for prompt in prompts if prompt.kind in ("speech", "noise")])
    _write_lists(out, prompts, samples)
    write_whole(out / "LICENSE.txt", licence_text(found))
    done = {
        "options": options,
        "origin": {recordings.language: recordings.origin for recordings in found},
        "transcripts_sha256": {r.language: hashlib.sha256(r.transcripts.read_bytes()).hexdigest() for r in found},
        "splits": check(out),
        "unlabelled": {prompt.path: prompt.unlabelled for prompt in prompts if prompt.unlabelled},
        "seconds": round(time.monotonic() - began, 1),
    }
    write_whole(out / "done.json", json.dumps(done, indent=1, ensure_ascii=False) + "\n")
    return done


def _finished(out: Path, options: dict[str, Any]) -> dict[str, Any] | None:
    """Return done.json if it tells of these options and every file behind it is still there."""
    try:
        done = json.loads((out / "done.json").read_text(encoding="utf-8"))
        manifests = [read_manifest(out / f"{name}.tsv") for name in MANIFESTS]
    except (FileNotFoundError, json.JSONDecodeError, InputError):
        return None
    labels = [out / f"{split}.{kind}" for split in LABELLED for kind in ("ltr", "wrd")]
    named = [*labels, out / "dict.ltr.txt", out / "LICENSE.txt"]
    named += [Path(manifest.audio_path(entry)) for manifest in manifests for entry in manifest.entries]
    moved = any(manifest.root != str(out / "audio") for manifest in manifests)
    return None if moved or done["options"] != options or not all(path.is_file() for path in named) else done


def _prompts(recordings: Recordings) -> list[Prompt]:
    """Judge every recording of a language, in the order of their names."""
    transcripts = read_transcripts(recordings.transcripts)
    files = sorted(recordings.sounds.rglob("*.wav"))
    names = [file.relative_to(recordings.sounds).with_suffix("").as_posix() for file in files]
    return [
        _judge(recordings.language, name, file, transcripts.get(name)) for name, file in zip(names, files, strict=True)
    ]


def _judge(language: str, name: str, file: Path, text: str | None) -> Prompt:
    try:
        wave, rate = soundfile.read(file, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise InputError(f"{file}: cannot be decoded ({error}); fetch the recordings again") from error
    seconds = len(wave) / rate
    speech = not _NOT_SPEECH.fullmatch(name) and bool(without_remarks(text or name))
    kind, words, reason = "left out", "", ""
    if not len(wave) or np.abs(wave).max() < SILENCE_PEAK:
        reason = "silence"
    elif seconds < (MIN_SECONDS if speech else MIN_NOISE_SECONDS):
        reason = f"{seconds:.2f} s long, too short"
    elif speech:
        kind = "speech"
        words, reason = _label(text, seconds) if language == "en" else ("", f"language {language}")
    elif language == "en":
        kind, reason = "noise", "not speech"
    else:
        reason = "not speech, and in English too"
    return Prompt(f"{language}/{name}.flac", file, seconds, kind, words, reason)


def _label(text: str | None, seconds: float) -> tuple[str, str]:
    """Return a prompt's spoken words as far as they are known, and why it cannot be a labelled utterance, or ""."""
    if text is None:
        return "", "no transcript"
    try:
        words = spoken_words(text)
    except UnknownReading as token:
        return "", f"reading of {token} unknown"
    if seconds > MAX_LABELLED_SECONDS:
        return words, f"{seconds:.2f} s long, more than {MAX_LABELLED_SECONDS} s"
    rate = letters_per_second(words, seconds)
    if not MIN_LETTERS_PER_SECOND <= rate <= MAX_LETTERS_PER_SECOND:
        return words, f"{rate:.1f} letters per second, outside {MIN_LETTERS_PER_SECOND} to {MAX_LETTERS_PER_SECOND}"
    return words, ""


def letters_per_second(words: str, seconds: float) -> float:
    """Return the speaking rate; a letter that stands alone counts for three, about as long as its name takes."""
    return sum(3 if len(word) == 1 else len(word) for word in words.split()) / seconds


def _convert(audio: Path, prompts: list[Prompt]) -> dict[str, int]:
    """Write each prompt at 16 kHz below ``audio``; return the lengths in samples by path."""
    return {
        prompt.path: _resample(prompt.source, audio / prompt.path)
        for prompt in tqdm(prompts, desc="resampling to 16 kHz", unit="prompt")
    }


def _resample(source: Path, target: Path) -> int:
    wave, rate = soundfile.read(source, dtype="float32", always_2d=True)
    wave_S = torch.from_numpy(wave.mean(axis=1))
    wave_S = torchaudio.functional.resample(wave_S, rate, SAMPLE_RATE, lowpass_filter_width=64)
    # The filter overshoots at full scale: clip, do not wrap around.
    pcm = (wave_S * 2**15).round().clamp(-(2**15), 2**15 - 1).to(torch.int16).numpy()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        soundfile.write(partial, pcm, SAMPLE_RATE, subtype="PCM_16", format="FLAC")
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return len(pcm)


def _write_lists(out: Path, prompts: list[Prompt], samples: dict[str, int]) -> None:
    speech = [prompt for prompt in prompts if prompt.kind == "speech"]
    labelled = [prompt for prompt in speech if not prompt.unlabelled]
    tested = {prompt.words for prompt in labelled if prompt.split == "test"}
    # An unlabelled recording of words that are tested is kept from pre-training too.
    heard = [prompt for prompt in speech if not (prompt.words and prompt.words in tested)]
    lists = {split: [prompt for prompt in labelled if prompt.split == split] for split in LABELLED}
    lists["pretrain"] = [prompt for prompt in heard if prompt.split != "valid"]
    lists["pretrain_valid"] = [prompt for prompt in heard if prompt.split == "valid"]
    lists["noise"] = [prompt for prompt in prompts if prompt.kind == "noise"]
    for name in MANIFESTS:
        if not lists[name]:
            raise InputError(f"{out}/{name}.tsv would be empty: the source holds too few prompts; use a whole release")
        write_manifest(
            out / f"{name}.tsv", out / "audio", [(prompt.path, samples[prompt.path]) for prompt in lists[name]]
        )
    for split in LABELLED:
        words = [prompt.words for prompt in lists[split]]
        write_whole(out / f"{split}.wrd", "".join(f"{line}\n" for line in words))
        write_whole(out / f"{split}.ltr", "".join(f"{letters(line)}\n" for line in words))
    counts = Counter(letter for prompt in labelled for letter in letters(prompt.words).split())
    ranked = sorted(counts, key=lambda letter: (letter != "|", -counts[letter], letter))
    write_whole(out / "dict.ltr.txt", "".join(f"{letter} {counts[letter]}\n" for letter in ranked))


def letters(words: str) -> str:
    """Return fairseq's letter form: "HELLO WORLD" -> "H E L L O | W O R L D |"."""
    return " ".join(words.replace(" ", "|") + "|")


def check(out: str | Path) -> dict[str, dict[str, float]]:
    """Verify a prepared folder; return utterances, minutes and words of each list.

    Raises InputError for audio that is missing or not as declared, for labels that do not fit their manifest, and for
    any text or recording of the test set in training or pre-training.
    """
    out = Path(out)
    manifests = {name: read_manifest(out / f"{name}.tsv") for name in MANIFESTS}
    for manifest in manifests.values():
        for entry in manifest.entries:
            where = manifest.where(entry)
            read_audio(manifest.audio_path(entry), SAMPLE_RATE, where=where, declared_samples=entry.samples)
    texts = {split: _check_labels(out, split, len(manifests[split])) for split in LABELLED}
    for name in ("train", "valid"):
        if shared := sorted(set(texts["test"]) & set(texts[name])):
            raise InputError(f"{out}/test.wrd: {shared[0]!r} is in {name}.wrd too; prepare the corpus again")
    paths = {name: {entry.path for entry in manifest.entries} for name, manifest in manifests.items()}
    for held_out, seen in (("test", "pretrain"), ("test", "pretrain_valid"), ("pretrain_valid", "pretrain")):
        if shared := sorted(paths[held_out] & paths[seen]):
            raise InputError(f"{out}/{seen}.tsv: {shared[0]} is in {held_out}.tsv too; prepare the corpus again")
    return {name: _size(manifest, texts.get(name, [])) for name, manifest in manifests.items()}


def _check_labels(out: Path, split: str, utterances: int) -> list[str]:
    words = (out / f"{split}.wrd").read_text(encoding="utf-8").splitlines()
    spelled = (out / f"{split}.ltr").read_text(encoding="utf-8").splitlines()
    if spelled != [letters(line) for line in words] or len(words) != utterances:
        raise InputError(
            f"{out}/{split}.ltr: {len(spelled)} lines that do not fit {split}.wrd ({len(words)} lines) and {split}.tsv "
            f"({utterances} utterances); prepare the corpus again"
        )
    return words


def _size(manifest: Manifest, texts: list[str]) -> dict[str, float]:
    size = {"utterances": len(manifest), "minutes": sum(e.samples for e in manifest.entries) / SAMPLE_RATE / 60}
    if texts:
        size |= {"words": sum(len(t.split()) for t in texts), "multi_word": sum(" " in t for t in texts)}
    return {key: round(value, 2) for key, value in size.items()}
