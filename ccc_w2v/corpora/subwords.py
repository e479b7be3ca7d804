"""Sentencepiece labels for fairseq's audio_finetuning task (labels: NAME, post_process: sentencepiece).

What `train` and `label` write into a folder, NAME being for example spm1000:
    NAME.model, NAME.vocab      sentencepiece's own files; ccc-w2v export --sentencepiece takes the .model
    NAME.model.settings.json    what the model was trained on: the same command finds it again
    dict.NAME.txt               its pieces in its order but <unk>, <s> and </s>, with their counts in the training text
    <split>.NAME                for <split>.wrd, one line each: the pieces, space between them
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import sentencepiece

from ccc_w2v.corpora.labels import write_dictionary
from ccc_w2v.errors import InputError
from ccc_w2v.files import sha256, write_whole
from ccc_w2v.run_folder import Output, beside, check, claim, keep_record
from ccc_w2v.text_files import text_lines

KINDS = ("unigram", "bpe")
# The sums of the expectation step are made thread by thread: their number is part of the result, so it is fixed.
THREADS = 8
BATCH = 10_000
MIN_SENTENCE_BYTES = 10


def train(
    texts: Sequence[str | Path],
    out: str | Path,
    *,
    name: str,
    size: int,
    kind: str = "unigram",
    to_label: Sequence[str | Path] = (),
    overwrite: bool = False,
) -> int:
    """Train ``size`` pieces (<unk>, <s> and </s> among them) on texts of a sentence a line; write model and dictionary.

    A character that only the .wrd files ``to_label`` have gets a piece too, as a letter keeps its place in a dictionary
    of letters. The same text gives the same bytes, on any number of cores. Returns the number of sentences, 0 where the
    same model is there already.

    Raises InputError for a text that is missing, empty or not UTF-8, for a size that the text does not allow, with the
    one that it does, for an unknown kind, and for a model of other text or settings that is there already.
    """
    out = Path(out)
    if kind not in KINDS:
        raise InputError(f"unknown kind of pieces '{kind}'; known: {', '.join(KINDS)}")
    sentences = [line for path in texts for line in _lines(Path(path)) if line]
    if not sentences:
        raise InputError(f"{', '.join(map(str, texts))}: no sentence in it; expected one sentence per line")
    rare = {character for path in to_label for line in _lines(Path(path)) for character in line} - {" "}
    letters = "".join(sorted(rare - {character for line in sentences for character in line}))
    settings = {"text": [sha256(path) for path in texts], "pieces": size, "kind": kind, "further letters": letters}
    model_path, dictionary, vocabulary_path = (
        out / file for file in (f"{name}.model", f"dict.{name}.txt", f"{name}.vocab")
    )
    output = Output(model_path, settings, beside(model_path), [model_path, vocabulary_path, dictionary], texts)
    if _is_there(output, overwrite):
        return 0
    model = _train(sentences, size, kind, "".join(sorted(rare)), ", ".join(map(str, texts)))
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    counts = Counter(piece for cut in _cuts(processor, sentences) for piece in cut)
    ids = range(processor.get_piece_size())
    pieces = [processor.id_to_piece(index) for index in ids if not _special(processor, index)]
    vocabulary = (f"{processor.id_to_piece(index)}\t{processor.get_score(index):g}\n" for index in ids)
    out.mkdir(parents=True, exist_ok=True)
    claim(output, overwrite=overwrite)
    keep_record(output)
    write_dictionary(dictionary, [(piece, counts[piece]) for piece in pieces])
    write_whole(vocabulary_path, "".join(vocabulary))
    write_whole(model_path, model)
    return len(sentences)


def _is_there(output: Output, overwrite: bool) -> bool:
    """Tell whether the same model is there, whole: its own file is the last one to be written."""
    try:
        return check(output, overwrite=overwrite) and output.name.exists()
    except InputError as error:
        raise InputError(f"{error}; to label with it, give its --name and no text") from error


def label(words: str | Path, model: str | Path) -> Path:
    """Cut a .wrd file by a model into the label file beside it, whose suffix is the model's name; returns its path.

    Raises InputError for a file that is missing or not what it should be, and for the first line with a character that
    the model has no piece for: fairseq would train on it as <unk>.
    """
    words, model = Path(words), Path(model)
    processor = read_model(model)
    lines = list(_lines(words))
    known = {processor.id_to_piece(index) for index in range(processor.get_piece_size())}
    cuts = []
    for number, cut in enumerate(_cuts(processor, lines), start=1):
        if unknown := [piece for piece in cut if piece not in known]:
            raise InputError(
                f"{words}:{number}: {unknown[0]!r} is in no piece of {model}: train on text with it or correct the line"
            )
        cuts.append(" ".join(cut))
    target = words.with_suffix(f".{model.stem}")
    write_whole(target, "".join(f"{cut}\n" for cut in cuts))
    return target


def read_model(path: str | Path) -> sentencepiece.SentencePieceProcessor:
    """Load a .model file; raises InputError where there is none or it is something else."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such sentencepiece model; train it first")
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
    except RuntimeError as error:
        raise InputError(f"{path}: is no sentencepiece model ({error})") from error


def _train(sentences: list[str], size: int, kind: str, characters: str, where: str) -> bytes:
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            # Text passed as an iterator leaves no path of this machine in the model.
            sentence_iterator=iter(sentences),
            model_writer=model,
            vocab_size=size,
            model_type=kind,
            character_coverage=1.0,
            required_chars=characters,
            num_threads=THREADS,
            # sentencepiece refuses less than 10.
            max_sentence_length=max(MIN_SENTENCE_BYTES, *(len(line.encode()) for line in sentences)),
            minloglevel=2,
        )
    except RuntimeError as error:
        if most := re.search(r"<= (\d+)\.?\s*$", str(error)):
            raise InputError(f"{where}: too little text for {size} pieces; give more, or at most {most[1]}") from error
        if least := re.search(r"required_chars\. -?\d+ vs (\d+)", str(error)):
            raise InputError(f"{where}: its characters alone need {least[1]} pieces, asked for {size}") from error
        raise InputError(f"{where}: sentencepiece cannot train {size} pieces on it ({error})") from error
    return model.getvalue()


def _special(processor: sentencepiece.SentencePieceProcessor, index: int) -> bool:
    return processor.is_unknown(index) or processor.is_control(index)


def _cuts(processor: sentencepiece.SentencePieceProcessor, lines: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(lines), BATCH):
        yield from processor.encode(lines[start : start + BATCH], out_type=str)


def _lines(path: Path) -> Iterator[str]:
    return (" ".join(line.split()) for line in text_lines(path, "text", "a sentence a line"))
