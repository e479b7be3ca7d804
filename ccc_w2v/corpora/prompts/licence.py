"""Licence and credits of the voice prompts, written beside the data: the licences ask for both with every copy."""

from __future__ import annotations

import re
from pathlib import Path

from ccc_w2v.corpora.prompts.sources import PromptRelease

_BY_SA = ("Creative Commons Attribution-ShareAlike 3.0 Unported", "https://creativecommons.org/licenses/by-sa/3.0/")
_BY = ("Creative Commons Attribution 3.0 Unported", "https://creativecommons.org/licenses/by/3.0/")
LICENCES = {"en": _BY_SA, "es": _BY_SA, "fr": _BY_SA, "it": _BY, "ru": _BY}
NAMES = {"en": "English", "es": "Spanish", "fr": "French", "it": "Italian", "ru": "Russian"}
# As in the CREDITS files of the release, for a source folder that lacks them.
CREDITS = {
    "en": "Recorded by:\nAllison Smith (http://www.theivrvoice.com)\n\n"
    "Financial Contributions by:\nDigium, Inc. (http://www.digium.com)",
    "es": "Recorded by:\nAllison Smith (http://www.theivrvoice.com)\n\n"
    "Financial Contributions by:\nDigium, Inc. (http://www.digium.com)",
    "fr": "Recorded by:\nJune Wallack (http://www.junewallack.com)\n\n"
    "Financial Contributions by:\nDigium, Inc. (http://www.digium.com)\nUnlimitel (http://www.unlimitel.ca)\n"
    "BGM Informatique (www.bgm.qc.ca)",
    "it": "Recorded by:\nCarlo Flora (http://www.carloflora.com)",
    "ru": "Provided by:\nMaxim Topal (http://www.ivrvoice.ru)",
}


def licence_text(sources: list[PromptRelease]) -> str:
    """Return LICENSE.txt: for each language its licence, the licence's address, the credits, and what was changed."""
    parts = ["Asterisk core sounds (https://downloads.asterisk.org/pub/telephony/sounds/)\n"]
    for recordings in sources:
        name, address = LICENCES[recordings.language]
        parts.append(
            f"{NAMES[recordings.language]} (audio/{recordings.language})\nLicence: {name}, {address}\n"
            f"Source: {recordings.origin}\n\n{_credits(recordings)}\n"
        )
    parts.append(
        "The original recordings have been modified: resampled from 8 to 16 kHz and stored as FLAC; the English\n"
        "transcripts were spelled out as spoken.\n"
    )
    return "\n".join(parts)


def _credits(recordings: PromptRelease) -> str:
    """Return the credits of the source's own CREDITS or Debian copyright file, else those known of the release."""
    folders = (recordings.transcripts.parent, recordings.sounds)
    for folder in folders:
        for file in sorted(folder.glob("CREDITS*")):
            return file.read_text(encoding="utf-8", errors="replace").strip()
        if text := _debian_credits(folder / "copyright", recordings.language):
            return text
    return CREDITS[recordings.language]


def _debian_credits(file: Path, language: str) -> str:
    """Return the comment of the language's paragraph in a Debian copyright file; "" where there is none."""
    if not file.is_file():
        return ""
    paragraphs = re.split(r"\n\s*\n", file.read_text(encoding="utf-8", errors="replace"))
    for files in (f"{language}-*", "*"):
        for paragraph in paragraphs:
            if paragraph.lstrip().startswith(f"Files: {files}\n"):
                fields = re.split(r"\n(?=\S)", paragraph.strip())
                comment = next((field for field in fields if field.startswith("Comment:")), "")
                lines = [line.strip() for line in comment.splitlines()[1:]]
                # A field that Debian indented by mistake ends the credits.
                lines = ["" if line == "." else line for line in lines if not line.startswith("License:")]
                return "\n".join(lines).strip()
    return ""
