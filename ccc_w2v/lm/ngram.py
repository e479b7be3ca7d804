"""Text -> n-gram language model, with KenLM's own programs (lmplz, build_binary)."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ccc_w2v.decode.lexicon import piece_splitter
from ccc_w2v.errors import InputError
from ccc_w2v.files import sha256, whole
from ccc_w2v.run_folder import Output, beside, check, content_of, keep_record
from ccc_w2v.score.normalize import normalize
from ccc_w2v.text_files import text_lines

WHERE = "build it from https://github.com/kpu/kenlm (cmake, a C++ compiler and Boost) and put it on the PATH"


def train_ngram(
    text_paths: list[Path],
    out: Path,
    *,
    order: int = 4,
    rules: str = "none",
    letters: bool = False,
    sentencepiece: Path | None = None,
    prune: list[int] | None = None,
    memory: str = "4G",
    overwrite: bool = False,
) -> int | None:
    """Write an n-gram model with modified Kneser-Ney smoothing; returns the number of training sentences.

    Returns None if the model of the same text and settings is there already.

    The texts hold a sentence a line, read under the named rules; with ``letters`` the units are letters and "|" after
    each word, with ``sentencepiece`` the pieces of that model, as beam search without a lexicon reads them. An ``out``
    that ends in .arpa is text, any other a KenLM binary (trie, which loads at once). ``prune``: for each order, n-grams
    with a count of at most this are pruned.
    ``memory`` is what lmplz sorts in, as it writes sizes (50M, 4G, 80%); what does not fit goes to disk beside ``out``.

    Raises InputError for a model of another text or setting at ``out`` (without ``overwrite``), where KenLM's programs
    are missing or fail, for units of both kinds, and for text without a sentence. The file appears whole or not at all.
    """
    if letters and sentencepiece:
        raise InputError("a model of letters or one of pieces; give --letters or --sentencepiece")
    units_of = "letters" if letters else sha256(sentencepiece) if sentencepiece else "words"
    units = _letters if letters else piece_splitter(sentencepiece) if sentencepiece else str.split
    binary = out.suffix != ".arpa"
    output = _output(text_paths, out, order, rules, units_of, prune)
    if check(output, overwrite=overwrite) and out.is_file():
        return None
    programs = {name: _program(name) for name in ("lmplz", *(["build_binary"] if binary else []))}
    with whole(out, overwrite=True) as partial, tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        sentences = 0
        with open(Path(scratch) / "text", "w", encoding="utf-8") as text:
            for sentence in _sentences(text_paths, rules, units):
                text.write(sentence + "\n")
                sentences += 1
        if not sentences:
            raise InputError(f"{', '.join(map(str, text_paths))}: no sentence in it; expected one sentence per line")
        arpa = Path(scratch) / "model.arpa" if binary else partial
        # Where counts give no discount (letters are few and all frequent, small text), KenLM's default takes its place.
        options = ["-o", str(order), "--discount_fallback", "--temp_prefix", scratch, "-S", memory]
        options += ["--prune", *map(str, prune)] if prune else []
        _run([programs["lmplz"], *options, "--text", text.name, "--arpa", str(arpa)])
        if binary:
            _run([programs["build_binary"], "trie", str(arpa), str(partial)])
    keep_record(output)
    return sentences


def _output(texts: list[Path], out: Path, order: int, rules: str, units: str, prune: list[int] | None) -> Output:
    learned = {"text": " ".join(map(content_of, texts)), "order": order, "normalize": rules, "units": units}
    return Output(out, {**learned, "prune": prune}, beside(out), [out], texts)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise InputError(f"{name}, KenLM's program, is not on the PATH; {WHERE}")
    return found


def _letters(sentence: str) -> list[str]:
    return [symbol for word in sentence.split() for symbol in (*word, "|")]


def _sentences(paths: list[Path], rules: str, units: Callable[[str], list[str]]) -> Iterator[str]:
    for path in paths:
        for line in text_lines(path, "text", "a sentence a line"):
            if sentence := normalize(line, rules):
                yield " ".join(units(sentence))


def _run(command: list[str]) -> None:
    """Run one of KenLM's programs; its last words become the error's."""
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if ended.returncode:
        *_, reason = ended.stderr.strip().splitlines() or ["it says nothing"]
        raise InputError(f"{Path(command[0]).name} failed with exit code {ended.returncode}: {reason:.300}")
