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
    LICENSE.txt, done.json              licence and credits; what was done, and every unlabelled prompt with the reason
    download/                           what was fetched
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from tqdm import tqdm

from ccc_w2v.corpora.prompts.labels import (
    DOUBTFUL,
    UnknownReadingError,
    letters_per_second,
    read_transcripts,
    spoken_words,
    without_remarks,
)
from ccc_w2v.corpora.prompts.licence import licence_text
from ccc_w2v.corpora.prompts.sources import LANGUAGES, UPSTREAM, PromptRelease, find_recordings
from ccc_w2v.corpora.prompts.splits import LABELLED, MANIFESTS, SAMPLE_RATE, Prompt, check, lists_of, table, write_lists
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.data.resample import resampled_pcm
from ccc_w2v.data.sound_file import read_sound
from ccc_w2v.errors import InputError
from ccc_w2v.files import appearing, sha256, write_whole

__all__ = ["check", "prepare"]

# Raised with every change of the rules, so that a folder of older rules is prepared again.
RULES = 1
MIN_SECONDS, MIN_NOISE_SECONDS, MAX_LABELLED_SECONDS = 0.3, 0.1, 35.0
# The speaker's own range is 2.3 ("no", with the pauses around it) to 16.3; beyond it, with a margin, a transcript
# cannot be what was recorded.
MIN_LETTERS_PER_SECOND, MAX_LETTERS_PER_SECOND = 2.0, 20.0
# The silences of the collection are its noise floor: -84 dB of full scale, its quietest recording peaks at -19 dB.
SILENCE_PEAK = 0.001
# Not every language's transcripts say that these are silence, tones or monkeys.
_NOT_SPEECH = re.compile(r"silence/.*|beep|beeperr|(ascending|descending)-2tone|confbridge-(join|leave)|tt-monkeys")


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
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; --out takes the folder to prepare the corpus in")
    wanted = ["en", *sorted(set(languages) - {"en"})]
    options = {"languages": wanted, "source": None if source is None else str(Path(source).resolve()), "rules": RULES}
    if (done := _finished(out, options)) is not None:
        print(f"{out}: prepared already, from {done['origin']['en']}; nothing to do")
        return done
    sources = [find_recordings(language, out / "download", source, upstream) for language in wanted]
    prompts = [prompt for recordings in sources for prompt in _prompts(recordings)]
    lists = lists_of(prompts)
    (out / "done.json").unlink(missing_ok=True)
    write_lists(out, lists, _convert(out / "audio", [p for p in prompts if p.kind in ("speech", "noise")]))
    write_whole(out / "LICENSE.txt", licence_text(sources))
    done = {
        "options": options,
        "origin": {recordings.language: recordings.origin for recordings in sources},
        "transcripts_sha256": {r.language: sha256(r.transcripts) for r in sources},
        "lists": check(out),
        "unlabelled": {prompt.path: prompt.unlabelled for prompt in prompts if prompt.unlabelled},
        "seconds": round(time.monotonic() - began, 1),
    }
    write_whole(out / "done.json", json.dumps(done, indent=1, ensure_ascii=False) + "\n")
    print(table(done["lists"]))
    return done


def _finished(out: Path, options: dict[str, Any]) -> dict[str, Any] | None:
    """Return done.json if it tells of these options and every file behind it is still there."""
    try:
        done = json.loads((out / "done.json").read_text(encoding="utf-8"))
        manifests = [read_manifest(out / f"{name}.tsv") for name in MANIFESTS]
    except (FileNotFoundError, json.JSONDecodeError, InputError):
        return None
    # The manifests hold absolute paths: a folder that was moved is prepared again.
    if done.get("options") != options or any(manifest.root != str(out / "audio") for manifest in manifests):
        return None
    files = [out / f"{split}.{kind}" for split in LABELLED for kind in ("ltr", "wrd")]
    files += [out / "dict.ltr.txt", out / "LICENSE.txt"]
    files += [Path(manifest.audio_path(entry)) for manifest in manifests for entry in manifest.entries]
    return done if all(file.is_file() for file in files) else None


def _prompts(recordings: PromptRelease) -> list[Prompt]:
    """Judge every recording of a language, in the order of their names."""
    transcripts = read_transcripts(recordings.transcripts)
    files = sorted(recordings.sounds.rglob("*.wav"))
    names = [file.relative_to(recordings.sounds).with_suffix("").as_posix() for file in files]
    return [
        _judge(recordings.language, name, file, transcripts.get(name)) for name, file in zip(names, files, strict=True)
    ]


def _judge(language: str, name: str, file: Path, text: str | None) -> Prompt:
    """Say what a recording holds and, where it is English speech, which words."""
    wave, rate = read_sound(file)
    seconds = len(wave) / rate
    speech = not _NOT_SPEECH.fullmatch(name) and bool(without_remarks(text or name))
    kind, words, reason = "left out", "", ""
    if not len(wave) or np.abs(wave).max() < SILENCE_PEAK:
        reason = "empty or silent"
    elif seconds < (MIN_SECONDS if speech else MIN_NOISE_SECONDS):
        reason = f"{seconds:.2f} s long, too short"
    elif speech:
        kind = "speech"
        words, reason = _label(name, text, seconds) if language == "en" else ("", f"language {language}")
    elif language == "en":
        kind, reason = "noise", "not speech"
    else:
        reason = "not speech, and in English too"
    return Prompt(f"{language}/{name}.flac", file, seconds, kind, words, reason)


def _label(name: str, text: str | None, seconds: float) -> tuple[str, str]:
    """Return a prompt's spoken words as far as they are known, and why it cannot be a labelled utterance, or ""."""
    if text is None:
        return "", "no transcript"
    try:
        words = spoken_words(text)
    except UnknownReadingError as token:
        return "", f"reading of {token} unknown"
    if name in DOUBTFUL:
        return words, DOUBTFUL[name]
    if seconds > MAX_LABELLED_SECONDS:
        return words, f"{seconds:.2f} s long, more than {MAX_LABELLED_SECONDS} s"
    rate = letters_per_second(words, seconds)
    if not MIN_LETTERS_PER_SECOND <= rate <= MAX_LETTERS_PER_SECOND:
        return words, f"{rate:.1f} letters per second, outside {MIN_LETTERS_PER_SECOND} to {MAX_LETTERS_PER_SECOND}"
    return words, ""


def _convert(audio: Path, prompts: list[Prompt]) -> dict[str, int]:
    """Write each prompt at 16 kHz below ``audio``; return the lengths in samples by path."""
    return {
        prompt.path: _resample(prompt.source, audio / prompt.path)
        for prompt in tqdm(prompts, desc="resampling to 16 kHz", unit="prompt")
    }


def _resample(source: Path, target: Path) -> int:
    """Write one recording as mono FLAC, through a temporary neighbour; return its length in samples."""
    wave, rate = read_sound(source)
    pcm = resampled_pcm(torch.from_numpy(wave.mean(axis=1)), rate, SAMPLE_RATE)
    with appearing(target, durable=False) as partial:
        soundfile.write(partial, pcm, SAMPLE_RATE, subtype="PCM_16", format="FLAC")
    return len(pcm)
