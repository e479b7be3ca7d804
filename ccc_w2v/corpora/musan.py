"""MUSAN: music, speech and noise, the usual recordings to mix into speech (OpenSLR 17).

Collected by David Snyder, Guoguo Chen and Daniel Povey at Johns Hopkins for speaker recognition and released in 2015
(arXiv 1510.08484): 2016 files, 109 hours, 16 kHz, from Freesound, Sound Bible, LibriVox, US government hearings and
archives of free music. Every file may be used, but under different terms, which a LICENSE in each folder tells in
prose: blocks between lines of "=", each naming the files that it is about, or one text for the whole folder.

What `prepare` writes into a folder:
    noise.tsv, free_sound.tsv, music.tsv, speech.tsv    manifests; free_sound is what ccc-wav2vec 2.0 mixed in
    licences.tsv        path, licence, and the words it was read from, for every file of the manifests
    download/           what was fetched
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from ccc_w2v.corpora.download import fetch_corpus, pinned_archive
from ccc_w2v.corpora.inventory import SAMPLE_RATE, write_checked
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.errors import InputError
from ccc_w2v.files import write_whole

KINDS = ("noise", "music", "speech")
MANIFESTS = {"noise": "noise/*/*.wav", "free_sound": "noise/free-sound/*.wav"} | {
    kind: f"{kind}/*/*.wav" for kind in ("music", "speech")
}
LICENCES = (
    "public-domain",
    "cc0",
    *("cc-by", "cc-by-sa", "cc-by-nd", "cc-by-nc", "cc-by-nc-sa", "cc-by-nc-nd"),
    "unknown",
)
_FILE = re.compile(r"\b(?:noise|music|speech)-[a-z-]+-\d{4}\b")


def prepare(
    out: str | Path, *, source: str | Path | None = None, licences: Collection[str] = (), url: str | None = None
) -> dict[str, float]:
    """Fetch MUSAN, or take the folder ``source``, and write manifests of what decodes; returns hours by manifest.

    ``licences`` keeps only files under one of these (see LICENCES). Raises InputError for an unknown licence, for a
    folder that does not hold MUSAN, and where no file of a manifest is left.
    """
    out = Path(out).resolve()
    if unknown := sorted(set(licences) - set(LICENCES)):
        raise InputError(f"unknown licence '{unknown[0]}'; known: {', '.join(LICENCES)}")
    folder = fetch_corpus(pinned_archive("musan"), out / "download", url) if source is None else Path(source)
    root = find_root(folder)
    terms = {path: term for subset in sorted(root.glob("*/*")) if subset.is_dir() for path, term in read_terms(subset)}
    hours, bad, listed = {}, [], set()
    for name, pattern in MANIFESTS.items():
        files = [path for path in sorted(root.glob(pattern)) if not licences or terms[path][0] in licences]
        if not files:
            raise InputError(f"{root}: no file for {name}.tsv under {' or '.join(licences) or 'any licence'}")
        samples, left_out = write_checked(out / f"{name}.tsv", root, files)
        hours[name] = samples / SAMPLE_RATE / 3600
        bad += left_out
        listed |= {root / entry.path for entry in read_manifest(out / f"{name}.tsv").entries}
    rows = ("\t".join((str(path.relative_to(root)), *terms[path])) for path in sorted(listed))
    write_whole(out / "licences.tsv", "".join(f"{row}\n" for row in rows))
    for message in sorted(set(bad)):
        print(f"left out: {message}")
    return hours


def find_root(folder: Path) -> Path:
    """Return the folder that holds noise, music and speech: ``folder``, or one named musan in it."""
    for root in (folder.resolve(), folder.resolve() / "musan"):
        if all((root / kind).is_dir() for kind in KINDS):
            return root
    raise InputError(f"{folder}: does not hold MUSAN (folders {', '.join(KINDS)}); unpack musan.tar.gz there")


def read_terms(subset: Path) -> list[tuple[Path, tuple[str, str]]]:
    """Return licence and its words for every .wav of a folder, by its LICENSE; "unknown" where that does not tell."""
    text = (subset / "LICENSE").read_text(encoding="utf-8", errors="replace") if (subset / "LICENSE").is_file() else ""
    by_file: dict[str, str] = {}
    for block in re.split(r"^=+\s*$", text, flags=re.MULTILINE):
        for name in _FILE.findall(block):
            by_file.setdefault(name, block)
    # A text that names no file is about all of them.
    default = "" if by_file else text
    licensed = [(path, by_file.get(path.stem, default)) for path in sorted(subset.glob("*.wav"))]
    return [(path, (licence_of(words), " ".join(words.split()))) for path, words in licensed]


def licence_of(words: str) -> str:
    """Return which of LICENCES a licence's text is about: a Creative Commons one by its terms, or the public domain."""
    text = " ".join(words.lower().replace("licence", "license").split())
    if re.search(r"\bcc-?\s?0\b|creative commons zero", text):
        return "cc0"
    terms = {
        "nc": r"non-?\s?commercial|\bby-nc",
        "sa": r"share-?\s?alike|\bby(-nc)?-sa\b",
        "nd": r"no-?\s?deriv|\bby(-nc)?-nd\b",
    }
    parts = [part for part, pattern in terms.items() if re.search(pattern, text)]
    if parts or re.search(r"\bcc[- ]by\b|\battribution\b|licenses/by\b", text):
        return "-".join(["cc", "by", *parts])
    return "public-domain" if "public domain" in text else "unknown"
