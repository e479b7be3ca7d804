"""ccc-w2v report: what the page holds, that hostile text stays text, and that a browser renders it."""

from __future__ import annotations

import base64
import html
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ccc_w2v.data.manifest import read_manifest, write_manifest
from ccc_w2v.data.packing import pack
from ccc_w2v.data.trn import utterance_ids, write_trn
from ccc_w2v.errors import InputError
from ccc_w2v.report.build import Limits, build_report, render
from ccc_w2v.score.options import ScoringOptions
from tests.fake_corpora import RATE, speech_like
from tests.run_tool import as_arguments, run_with

SCORING = ScoringOptions()
HOSTILE = "<script>document.title='hacked'</script>"
IMAGE = "<img/src=x/onerror=document.title='hacked'>"
REFERENCES = {"a-1": "THE CAT SAT", "a-2": f"ON {HOSTILE}", "a-3": "MATS", "b-1": "A HAT IS NOT A CAT AT ALL"}
FIRST = {"a-1": "THE HAT", "a-2": "ON", "a-3": "MATS", "b-1": f"A CAT IS NOT {IMAGE} A A CAT AT"}
SECOND = {**REFERENCES, "b-1": "HATS"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    for name, texts in (("first<b>", FIRST), ("second", SECOND)):
        (root / name).mkdir()
        write_trn(root / name / "ref.trn", REFERENCES)
        write_trn(root / name / "hyp.trn", texts)
    (root / "second" / "decoding.json").write_text('{"checkpoint": "best.pt", "beam": "<b>50"}')
    entries = []
    for index, utterance in enumerate(REFERENCES):
        path = root / "audio" / f"{utterance.replace('-', '/')}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        wave = speech_like(8000 + 1000 * index, seed=index)
        soundfile.write(path, wave, RATE, subtype="PCM_16")
        entries.append((str(path.relative_to(root / "audio")), len(wave)))
    write_manifest(root / "test.tsv", root / "audio", entries)
    return root


def systems(folder: Path) -> list[Path]:
    return [folder / "first<b>", folder / "second"]


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    out = folder / "report.html"
    options = as_arguments(manifest=folder / "test.tsv", out=out, title=f"A & B {HOSTILE}", groups=folder / "test.tsv")
    assert run_with("report", *systems(folder), *options) == 0
    return out.read_text(encoding="utf-8")


def test_worst_utterances_come_first(folder: Path) -> None:
    report = build_report(systems(folder), SCORING, manifest_path=folder / "test.tsv")
    # b-1: 5 errors of the first system and 8 of the second; a-3 has none and is not shown.
    assert [(row["id"], row["errors"], row["words"]) for row in report["utterances"]] == [
        ("b-1", 4 + 8, 8),
        ("a-1", 2, 3),
        ("a-2", 1, 2),
    ]
    rows = report["utterances"][1]["rows"]
    assert [(run["kind"], run["pairs"]) for run in rows[str(folder / "first<b>")]] == [
        ("ok", [("THE", "THE")]),
        ("del", [("CAT", None)]),
        ("sub", [("SAT", "HAT")]),
    ]
    assert [run["kind"] for run in rows[str(folder / "second")]] == ["ok"]
    assert [system["label"] for system in report["systems"]] == ["first<b>", "second"]
    assert report["systems"][1]["settings"] == {"checkpoint": "best.pt", "beam": "<b>50"}
    assert report["utterances"][1]["seconds"] == 0.5
    assert sum(part["units"] for part in report["systems"][0]["by_snr"].values()) == 14


def test_players_hold_the_recordings_without_loss(folder: Path, tmp_path: Path) -> None:
    pack(read_manifest(folder / "test.tsv"), tmp_path / "packed.tsv", RATE)
    slices = read_manifest(tmp_path / "packed.tsv")
    assert all(".zip:" in entry.path for entry in slices.entries)
    ids = dict(zip(REFERENCES, utterance_ids(slices), strict=True))
    for name, texts in (("ref", REFERENCES), ("hyp", FIRST)):
        write_trn(tmp_path / f"{name}.trn", {ids[key]: text for key, text in texts.items()})
    of_slices = build_report(
        [tmp_path / "hyp.trn"], SCORING, reference_path=tmp_path / "ref.trn", manifest_path=slices.source
    )
    of_files = build_report([folder / "first<b>"], SCORING, manifest_path=folder / "test.tsv")
    for index, utterance in enumerate(REFERENCES):
        if utterance == "a-3":
            continue
        wave = (speech_like(8000 + 1000 * index, seed=index) * 32767).round()
        for uri in (of_files["audio"][utterance], of_slices["audio"][ids[utterance]]):
            kind, content = uri.split(",")
            assert kind == "data:audio/flac;base64"
            heard, rate = soundfile.read(io.BytesIO(base64.b64decode(content)), dtype="int16")
            assert rate == RATE
            assert np.abs(heard - wave).max() <= 1


def test_the_limit_of_audio_is_kept_and_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = build_report(systems(folder), SCORING, manifest_path=folder / "test.tsv")["audio"]
    limit = len(whole["b-1"]) + len(whole["a-1"])
    options = {"manifest": folder / "test.tsv", "out": folder / "short.html", "max_audio_mb": limit / 1e6}
    assert run_with("report", *systems(folder), *as_arguments(**options)) == 0
    page = (folder / "short.html").read_text(encoding="utf-8")
    assert page.count("<audio") == 2
    assert "1 of 3 recordings, because together they take more than" in page
    assert "audio of 1 of them left out" in capsys.readouterr().out
    none = build_report(systems(folder), SCORING, manifest_path=folder / "test.tsv", limits=Limits(1, 0))
    assert (len(none["utterances"]), none["audio"], none["audio_left_out"]) == (1, {}, 1)


def test_without_audio_or_errors_a_page_still_says_so(folder: Path) -> None:
    page = render(build_report([folder / "second" / "ref.trn"], SCORING, reference_path=folder / "second" / "ref.trn"))
    assert "No utterance holds an error" in page
    assert "no manifest was given" in page
    assert "<audio" not in page
    assert "signal-to-noise ratio (dB" not in page


class Attributes(HTMLParser):
    """Collects a page's elements and what they name."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[str] = []
        self.found: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.found += attrs


def test_nothing_is_fetched_and_hostile_text_is_text(page: str) -> None:
    parsed = Attributes(page)
    assert parsed.elements.count("script") == 1
    assert not {"img", "link", "iframe", "object", "base", "form"} & set(parsed.elements)
    assert not [name for name, _ in parsed.found if name.startswith("on")]
    for name, value in parsed.found:
        if name in ("src", "href", "srcset", "xlink:href", "action"):
            assert (value or "").startswith(("#", "data:audio/flac;base64,"))
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page))
    for hostile in (HOSTILE, IMAGE, "first<b>", "<b>50"):
        assert hostile not in page
    assert "&lt;script&gt;document.title" in page
    assert "first&lt;b&gt;" in page
    assert "bootstrap resamples of 2 speakers" in page
    assert "text rules: none" in page.lower()


def rendered(page: Path, profile: Path) -> tuple[str, str]:
    """Open a page in headless Chromium; returns the document after its scripts ran, and what its console said."""
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", *quiet, f"--user-data-dir={profile}"]
    finished = subprocess.run(
        [*command, "--enable-logging=stderr", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=3600,
    )
    return finished.stdout, "\n".join(line for line in finished.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian package chromium)")
def test_a_browser_renders_it_without_errors(page: str, folder: Path, tmp_path: Path) -> None:
    document, console = rendered(folder / "report.html", tmp_path / "profile")
    assert console == ""
    assert re.search(r'<html[^>]*class="scripted"', document)  # the script ran to its end
    assert "<title>A &amp; B &lt;script&gt;" in document  # and no other did
    assert document.count("<audio") == 3
    # What the test relies on: errors and refused scripts are heard of.
    wrong = page.replace("</body>", "<script>document.title = 'hacked'</script></body>")
    (tmp_path / "wrong.html").write_text(wrong, encoding="utf-8")
    document, console = rendered(tmp_path / "wrong.html", tmp_path / "profile")
    assert "Content Security Policy" in console
    assert "<title>A &amp; B" in document


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian package chromium)")
def test_a_telephone_scrolls_the_tables_not_the_page(page: str, tmp_path: Path) -> None:
    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    inner = html.escape(re.sub(r"base64,[A-Za-z0-9+/=]+", "base64,", free))
    report = "f.contentDocument.documentElement.scrollWidth + ' of ' + f.contentWindow.innerWidth"
    (tmp_path / "phone.html").write_text(
        f'<title>-</title><iframe id="f" width="400" height="800" srcdoc="{inner}"></iframe><script>const f = '
        f"document.getElementById('f'); f.onload = () => {{ document.title = {report}; }};</script>",
        encoding="utf-8",
    )
    document, _ = rendered(tmp_path / "phone.html", tmp_path / "profile")
    width, shown = map(int, re.search(r"<title>(\d+) of (\d+)</title>", document).groups())
    assert 380 <= shown <= 400
    assert width <= shown


def test_refusals_are_one_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*named: object, **options: object) -> str:
        assert run_with("report", *named, *as_arguments(out=tmp_path / "no.html", **options)) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        message = captured.err.splitlines()[-1]
        assert message.startswith("error: ")
        assert not (tmp_path / "no.html").exists()
        return message

    first, second = systems(folder)
    assert "expected one to 6, each once" in refused(first, first)
    assert "name them with --ref" in refused(first / "hyp.trn")
    assert "gone.tsv: no such manifest" in refused(first, manifest=tmp_path / "gone.tsv")
    write_manifest(tmp_path / "few.tsv", folder / "audio", [("a/1.wav", 8000)])
    assert "few.tsv: lacks 3 utterances of the references: a-2, a-3, b-1" in refused(
        first, manifest=tmp_path / "few.tsv"
    )
    assert "expected 0 or more" in refused(first, worst=-1)
    (tmp_path / "hyp.trn").write_text("A (a-1)\n")
    assert "3 of 4 utterances have no hypothesis" in refused(tmp_path / "hyp.trn", ref=second / "ref.trn")
    (tmp_path / "decoding.json").write_text("{")
    shutil.copy(second / "ref.trn", tmp_path / "hyp.trn")
    with pytest.raises(InputError, match=r"decoding\.json: not what ccc-w2v decode writes"):
        build_report([tmp_path / "hyp.trn"], SCORING, reference_path=second / "ref.trn")
