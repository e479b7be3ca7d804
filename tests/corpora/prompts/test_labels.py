import gzip
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccc_w2v.corpora.labels import letters
from ccc_w2v.corpora.prompts.labels import (
    DOUBTFUL,
    UnknownReadingError,
    letters_per_second,
    read_transcripts,
    spoken_words,
    without_remarks,
)
from ccc_w2v.errors import InputError
from tests.corpora.prompts.fake_prompts import TRICKY


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        *((text, label) for text, label, _ in TRICKY.values() if label),
        ("Press 1 to mute, 2 to lock, or 0 to exit.", "PRESS ONE TO MUTE TWO TO LOCK OR ZERO TO EXIT"),
        ("dial 500, 600 or 8500", "DIAL FIVE ZERO ZERO SIX ZERO ZERO OR EIGHT FIVE ZERO ZERO"),
        (
            "extension 1234 and password 4242",
            "EXTENSION ONE TWO THREE FOUR AND PASSWORD FOUR TWO FOUR TWO",
        ),
        ("a 28.8 kilobit modem", "A TWENTY EIGHT POINT EIGHT KILOBIT MODEM"),
        ("H.323", "H THREE TWO THREE"),
        ("A.M.", "A M"),
        ("The PBX and IVR platform, voice over IP", "THE P B X AND I V R PLATFORM VOICE OVER I P"),
        ('IAX (note: does not say "2")', "I A X"),
        ("M I S D N", "M I S D N"),
        ("SIP", "SIP"),
        ("USB Radio", "U S B RADIO"),
        ('a polite "don\'t call" menu', "A POLITE DON'T CALL MENU"),
        ("o'clock", "O'CLOCK"),
        ("... letters of your party's last name.", "LETTERS OF YOUR PARTY'S LAST NAME"),
        ("All of our represenatives", "ALL OF OUR REPRESENTATIVES"),
        ("Un-indentified or witheld", "UNIDENTIFIED OR WITHHELD"),
        ("the fourtieth, straight thru", "THE FORTIETH STRAIGHT THROUGH"),
        ("De-activated. Re-enter; re-record", "DEACTIVATED REENTER RERECORD"),
        ("Call-Forward Unconditional, Inter-Asterisk", "CALL FORWARD UNCONDITIONAL INTER ASTERISK"),
        ("Use the 7 key for Q, and the 9 key for Z.", "USE THE SEVEN KEY FOR Q AND THE NINE KEY FOR Z"),
        ("touch tone voice mail", "TOUCHTONE VOICEMAIL"),
        ("space [ ]", "SPACE"),
        ("[ascending tones]", ""),
        ("<beep decending>", ""),
        ("(10 seconds of silence)", ""),
        ("I am here; am I?", "I AM HERE AM I"),
    ],
)
def test_spoken_as_the_speaker_reads_it(written, spoken):
    assert spoken_words(written) == spoken


@pytest.mark.parametrize(("written", "token"), [("dial 4711 now", "4711"), ("the XYZ menu", "XYZ"), ("50% off", "50%")])
def test_what_no_table_covers_is_refused_by_name(written, token):
    with pytest.raises(UnknownReadingError, match=f"^{re.escape(token)}$"):
        spoken_words(written)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_a_label_holds_letters_and_apostrophes_only(text):
    try:
        words = spoken_words(text)
    except UnknownReadingError:
        return
    assert re.fullmatch(r"(|[A-Z]+('[A-Z]+)*( [A-Z]+('[A-Z]+)*)*)", words)
    # What is spelled out already is read as it stands.
    assert not words or letters(words).replace(" ", "").replace("|", " ").strip() == words


def test_remarks_are_dropped_anywhere():
    assert without_remarks("[!] exclamation (note) point <beep>") == "exclamation point"


def test_a_spelled_letter_counts_for_three():
    assert letters_per_second("P B X NOW", 2.0) == (3 * 3 + 3) / 2


@pytest.mark.parametrize("compressed", [False, True])
def test_transcripts_are_read(tmp_path, compressed):
    text = "\ufeff; a comment\n\nhello: Hello: world\n vm-leavemsg:  Press 5 \nempty:\n".encode()
    path = tmp_path / ("core-sounds-en.txt.gz" if compressed else "core-sounds-en.txt")
    path.write_bytes(gzip.compress(text) if compressed else text)
    assert read_transcripts(path) == {"hello": "Hello: world", "vm-leavemsg": "Press 5", "empty": ""}


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"hello: Hello\nno colon here\n", "a.txt", "a.txt:2: expected 'prompt name: text', found 'no colon here'"),
        (b"hello: \xff\n", "a.txt", "a.txt: not UTF-8 text"),
        (b"not gzip", "a.txt.gz", "a.txt.gz: damaged"),
        (gzip.compress(b"hello: Hello\n" * 100, mtime=0)[:-12], "a.txt.gz", "a.txt.gz: damaged"),
    ],
)
def test_a_broken_transcript_file_is_named(tmp_path, content, name, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(message)):
        read_transcripts(tmp_path / name)


def test_doubtful_prompts_name_a_reason():
    assert all(reason for reason in DOUBTFUL.values())
    assert "spy-iax" in DOUBTFUL
