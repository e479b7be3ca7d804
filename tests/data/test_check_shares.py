"""A check in shares: report and lists are those of one call, wherever a duplicate lies; a killed share resumes."""

import json
import os

import numpy as np
import pytest
import soundfile

from ccc_w2v.cli.main import main
from ccc_w2v.data import check
from ccc_w2v.data.manifest import read_manifest, write_manifest
from tests.fake_corpora import RATE, speech_like, write_corpus, write_labels


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Seven recordings: the second silent, the third clipped, the sixth gone, the last the samples of the first."""
    path = write_corpus(tmp_path, [8000] * 7)
    write_labels(path, [f"WORD {letter}" for letter in "ABCDEFG"])
    path.with_suffix(".ltr").write_text("A |\n" * 6 + "\n")
    audio = tmp_path / "audio"
    soundfile.write(audio / "train1.wav", np.zeros(8000, np.float32), RATE)
    soundfile.write(audio / "train2.wav", np.clip(40 * speech_like(8000, 2), -1, 1), RATE, subtype="PCM_16")
    (audio / "train5.wav").unlink()
    content, _ = soundfile.read(audio / "train0.wav", dtype="int16")
    soundfile.write(audio / "train6.wav", content, RATE, subtype="PCM_16")
    monkeypatch.chdir(tmp_path)
    return path


def checked(*words, shard=None):
    share = ["--shard", shard] if shard else []
    return main(["check", "train.tsv", "--jobs", "1", *words, *share])


@pytest.mark.parametrize("count", [2, 7])
def test_a_check_in_shares_is_the_check(corpus, tmp_path, capsys, monkeypatch, count):
    for folder in ("straight", "merged", "elsewhere"):
        (tmp_path / folder).mkdir()
    assert checked("--out", "straight/good.tsv") == 2
    expected = capsys.readouterr()
    for number in range(count, 0, -1):
        assert checked("--out", "merged/good.tsv", shard=f"{number}/{count}") == 0
    assert os.listdir("merged") == ["good.tsv.shards"]
    capsys.readouterr()
    # Wherever the merge is called: the report names lines as the shares were given them.
    monkeypatch.chdir("elsewhere")
    assert main(["merge", "../merged/good.tsv"]) == 2
    merged = capsys.readouterr()
    names = {f"{tmp_path}/merged/": "straight/", "merged/": "straight/"}
    for ours, theirs in names.items():
        merged = type(merged)(*(text.replace(ours, theirs) for text in merged))
    assert (merged.err, merged.out) == (without_progress(expected.err), expected.out)
    files = {path.name for path in (tmp_path / "straight").iterdir()}
    assert files == {"good.tsv", "good.wrd", "good.ltr", "good.report.json", "dict.ltr.txt"}
    for name in files:
        assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes(), name
    counts = json.loads((tmp_path / "merged/good.report.json").read_text())["counts"]
    assert counts == {"unusable": 2, "clipped": 1, "duplicate": 1}


def without_progress(text):
    """Return what a command said on stderr without its progress bar."""
    return "".join(line for line in text.splitlines(keepends=True) if line.startswith(("error: ", "warning: ")))


def test_a_report_alone_is_merged_too_and_something_must_be_written(corpus, tmp_path, capsys):
    assert checked(shard="1/2") == 2
    assert "--shard: name --out or --report" in capsys.readouterr().err
    assert checked("--report", "straight.json") == 2
    for number in (1, 2):
        assert checked("--report", "merged.json", shard=f"{number}/2") == 0
    assert main(["merge", "merged.json"]) == 2
    assert (tmp_path / "merged.json").read_bytes() == (tmp_path / "straight.json").read_bytes()
    assert not (tmp_path / "merged.tsv").exists()


def test_a_killed_share_continues_and_a_finished_one_reads_again(corpus, tmp_path, monkeypatch):
    read, reads = check.read_audio, []

    def counted(path, *arguments, **options):
        reads.append(os.path.basename(path))
        if len(reads) == 3 and not (tmp_path / "shown").exists():
            (tmp_path / "shown").touch()
            raise KeyboardInterrupt
        return read(path, *arguments, **options)

    monkeypatch.setattr(check, "read_audio", counted)
    words = ("--out", "good.tsv")
    assert checked(*words, shard="1/2") == 130
    journal = tmp_path / "good.tsv.shards/1-of-2/looks.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    assert len(lines) == 2
    journal.write_text("".join(lines) + lines[0][:20])  # as a kill leaves it
    reads.clear()
    assert checked(*words, shard="1/2") == 0
    assert reads == ["train1.wav", "train2.wav"]  # the silent one may be another one by now
    soundfile.write(tmp_path / "audio/train1.wav", speech_like(8000, 1), RATE)
    reads.clear()
    assert checked(*words, shard="1/2") == 0
    assert reads == ["train0.wav", "train1.wav", "train2.wav"]
    assert checked(*words, shard="2/2") == 0
    assert main(["merge", "good.tsv"]) == 2
    paths = [entry.path for entry in read_manifest(tmp_path / "good.tsv").entries]
    assert paths == ["train0.wav", "train1.wav", "train3.wav", "train4.wav"]


def other_list(tmp_path):
    manifest = read_manifest(tmp_path / "train.tsv")
    entries = [(entry.path, entry.samples) for entry in manifest.entries]
    write_manifest(tmp_path / "train.tsv", manifest.root, entries[::-1])


def no_line(tmp_path):
    journal = tmp_path / "good.tsv.shards/2-of-2/looks.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[1:]))


def no_journal(tmp_path):
    (tmp_path / "good.tsv.shards/2-of-2/looks.jsonl").write_text("[]\n")


def no_shard(tmp_path):
    (tmp_path / "good.tsv.shards/2-of-2/shard.json").unlink()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (other_list, "is not the manifest that the shards were made of"),
        (no_line, "does not hold the 4 lines of its share; run it again"),
        (no_journal, "not what ccc-w2v check writes"),
        (no_shard, "1 of 2 shards are not finished: 2"),
    ],
)
def test_shares_that_do_not_fit_are_one_line_and_nothing_is_written(corpus, tmp_path, capsys, harm, message):
    for number in (1, 2):
        assert checked("--out", "good.tsv", shard=f"{number}/2") == 0
    capsys.readouterr()
    harm(tmp_path)
    assert main(["merge", "good.tsv"]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("good.") and path.is_file()]


def test_a_share_of_another_list_or_limit_is_refused(corpus, tmp_path, capsys):
    assert checked("--out", "good.tsv", shard="1/2") == 0
    assert checked("--out", "good.tsv", "--max-clipped", "0.5", shard="2/2") == 0
    capsys.readouterr()
    assert main(["merge", "good.tsv"]) == 2
    assert "2-of-2: does not belong to 1-of-2: it differs in max_clipped" in capsys.readouterr().err
    assert checked("--out", "good.tsv", "--min-samples", "9", shard="1/2") == 2
    assert "holds a shard made with other settings (min_samples)" in capsys.readouterr().err
    other_list(tmp_path)
    assert checked("--out", "good.tsv", shard="1/2") == 2
    assert "holds a shard made with other settings (manifest)" in capsys.readouterr().err
    assert checked("--out", "train.tsv", shard="1/2") == 2
    assert "train.tsv: is what this command reads" in capsys.readouterr().err
