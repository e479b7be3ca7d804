"""The words of the Fisher English transcripts (LDC2004T19, LDC2005T19), for language models of telephone speech.

Collected by LDC in 2003: 11,699 calls of ten minutes between strangers about a topic, transcribed quickly, in lines
"12.34 15.67 A: words". Spelled words are i._b._m., doubtful ones stand in (( )), sounds in [brackets].
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from ccc_w2v.corpora.switchboard.text import label_words, unknown_characters
from ccc_w2v.data.stm import nist_lines
from ccc_w2v.errors import InputError

_LINE = re.compile(r"[\d.]+ [\d.]+ [AB]: ?(.*)")
_SOUND = re.compile(r"\[[^\]]*\]|<[^>]*>|\(\(|\)\)|[*?,]")


def fisher_text(folder: str | Path) -> Iterator[str]:
    """Yield the words of every utterance of a part of Fisher (fe_03_p1_tran or fe_03_p2_tran), as labels have them.

    Utterances of other characters than letters, apostrophe and hyphen are left out. Raises InputError for a folder
    without such transcripts and for a line of another form.
    """
    files = sorted(Path(folder).rglob("data/trans/*/fe_03_*.txt"))
    if not files:
        raise InputError(f"{folder}: holds no data/trans/*/fe_03_*.txt; expected fe_03_p1_tran (LDC2004T19) or part 2")
    for file in tqdm(files, desc=f"text of {Path(folder).name}", unit="call", leave=False):
        for number, line in nist_lines(file, "transcript"):
            if not line.strip() or line.startswith("#"):
                continue
            match = _LINE.fullmatch(line.rstrip())
            if not match:
                raise InputError(f"{file}:{number}: expected 'start end A: words', found {line[:60]!r}")
            words = label_words(" ".join(_SOUND.sub(" ", match[1].lower()).split()), keep_noises=False)
            if words and not unknown_characters(words.split()):
                yield words
