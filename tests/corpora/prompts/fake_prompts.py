"""A small copy of the voice prompts' layout, as the Debian packages and as the release archive unpack."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import soundfile

from tests.fake_corpora import speech_like

RATE = 8000
# name: (written transcript or None, label or None where there must be none, seconds)
TRICKY = {
    "digits/1": ("one", "ONE", 0.8),
    "letters/at": ("at [@]", "AT", 0.6),
    "letters/exclaimation-point": ("exclaimation-point [!]", "EXCLAMATION POINT", 1.2),
    "confbridge-binaural-on": ("3D audio enabled", "THREE D AUDIO ENABLED", 2.2),
    "dictate/both_help": ("press *, or # to exit...", "PRESS STAR OR POUND TO EXIT", 2.0),
    "vm-intro": ("Leave it after the tone. (simple tone sound plays)", "LEAVE IT AFTER THE TONE", 2.0),
    "conf-admin": ("to mute or umute non-administrator users", "TO MUTE OR UNMUTE NON ADMINISTRATOR USERS", 3.0),
    "vm-mailbox": ("The user's mail box is full!", "THE USER'S MAILBOX IS FULL", 2.0),
    "demo-web": ("visit www.asterisk.org.", "VISIT W W W DOT ASTERISK DOT ORG", 3.0),
    "spy-iax": ("IAX", None, 0.8),
    "spy-odd": ("XYZZY 2000", None, 0.8),
    "without-text": (None, None, 1.0),
    "much-too-fast": ("a text of many words that nobody can say in this time", None, 0.5),
    "much-too-slow": ("a", None, 3.0),
    "much-too-long": ("a very long tour " * 30, None, 36.0),
    "much-too-short": ("oh", None, 0.2),
    "beep": ("[this is a simple beep tone]", None, 0.4),
    "confbridge-join": ("<beep ascending>", None, 0.3),
    "descending-2tone": ("[descending tones]", None, 0.05),
    "silence/1": ("(1 second of silence)", None, 1.0),
}
ORDINARY = [f"please {verb} {noun}" for verb in ("enter", "dial", "hold") for noun in ("a number", "the line", "now")]
ORDINARY += [
    f"{noun} {verb}" for noun in ("call", "user", "leader") for verb in ("waiting", "removed", "joined", "left")
]
ORDINARY += ["hello", "goodbye", "hello", "Goodbye!", "busy", "transfer", "agent", "message", "caller"]
CREDITS = "Recorded by:\nA Speaker (http://example.org)"
COPYRIGHT = f"""Format: 1.0

Files: *
Copyright: 2003, A Speaker
Comment: The CREDITS file:
 {CREDITS.replace(chr(10), chr(10) + " ")}
License: CC-BY-SA-3.0

Files: fr-*
Comment: CREDITS file:
 Recorded by:
 .
 Une Personne
"""


def transcripts() -> dict[str, str]:
    """Return every written transcript by prompt."""
    written = {name: text for name, (text, _, _) in TRICKY.items() if text is not None}
    return written | {f"ordinary-{index:02}": text for index, text in enumerate(ORDINARY)}


def write_sounds(folder: Path) -> None:
    """Write the recordings at 8 kHz; silence is what the collection has: its last bit toggling."""
    seconds = {name: length for name, (_, _, length) in TRICKY.items()}
    seconds |= {f"ordinary-{index:02}": max(0.5, len(text) / 10) for index, text in enumerate(ORDINARY)}
    for seed, (name, length) in enumerate(seconds.items()):
        samples = round(length * RATE)
        wave = 4 * speech_like(samples, seed) if not name.startswith("silence") else np.full(samples, 2 / 2**15)
        (folder / f"{name}.wav").parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{name}.wav", wave, RATE, subtype="PCM_16")


def write_text() -> str:
    """Return core-sounds-en.txt."""
    return "; Core Sounds\n\n" + "".join(f"{name}: {text}\n" for name, text in transcripts().items())


def debian_tree(root: Path, language: str = "en") -> Path:
    """Write what `dpkg -x` leaves of the two packages of a language; returns the root."""
    voice = {"en": "en_US_f_Allison", "fr": "fr_CA_f_June"}[language]
    write_sounds(root / "usr/share/asterisk/sounds" / voice)
    docs = root / f"usr/share/doc/asterisk-core-sounds-{language}"
    docs.mkdir(parents=True)
    (docs / f"core-sounds-{language}.txt.gz").write_bytes(gzip.compress(write_text().encode()))
    (docs / "copyright").write_text(COPYRIGHT)
    return root


def release_tree(root: Path) -> Path:
    """Write what the upstream archive holds: everything flat in one folder; returns it."""
    write_sounds(root)
    (root / "core-sounds-en.txt").write_text(write_text())
    (root / "CREDITS-asterisk-core-en-1.6.1").write_text(CREDITS + "\n")
    return root
