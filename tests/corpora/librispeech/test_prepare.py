"""LibriSpeech and Libri-light's limited sets from trees: fairseq's own files, stages, all that may be wrong."""

import argparse
import configparser
import json
import os
import shutil
from pathlib import Path

import pytest
import torchaudio
from fairseq.tasks.audio_finetuning import AudioFinetuningConfig, AudioFinetuningTask
from omegaconf import OmegaConf

from ccc_w2v.cli.main import main
from ccc_w2v.corpora.librispeech import librilight
from ccc_w2v.corpora.librispeech import prepare as librispeech
from ccc_w2v.corpora.librispeech.splits import letter_dictionary
from ccc_w2v.corpora.subwords import label, train
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.errors import InputError
from tests.corpora.librispeech.fake_librispeech import write_librispeech, write_limited
from tests.run_tool import run_tool, run_with

SPLITS = {
    "train_960": "/train-",
    "train_360": "/train-clean-360/",
    "train_100": "/train-clean-100/",
    **{part: f"/{part.replace('_', '-')}/" for part in ("dev_clean", "dev_other", "test_clean", "test_other")},
}
LIMITED = {"train_10m": "/1h/0/", "train_1h": "/1h/", "train_10h": "h/"}
DEV = ("dev-clean",)
FIRST = "dev-clean/400/4001/400-4001-0000"


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trees")
    return {"librispeech": write_librispeech(folder), "limited": write_limited(folder)}


@pytest.fixture(scope="module")
def prepared(trees, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared")
    for module, tree in ((librispeech, "librispeech"), (librilight, "limited")):
        module.prepare(out, source=trees[tree])
    return out


@pytest.fixture
def tree(tmp_path):
    """One small part, to be damaged."""
    return write_librispeech(tmp_path, DEV, utterances=2, seconds=(1.0, 1.2))


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def fairseqs(root, fragment, split, out, monkeypatch):
    """Run fairseq's two scripts, unmodified; its glob, which knows no order, hands out names in order here."""
    manifests = pytest.importorskip("fairseq.examples.wav2vec.wav2vec_manifest", reason="fairseq without its examples")
    labels = pytest.importorskip("fairseq.examples.wav2vec.libri_labels", reason="fairseq without its examples")
    iglob = manifests.glob.iglob
    monkeypatch.setattr(manifests.glob, "iglob", lambda *args, **kwargs: iter(sorted(iglob(*args, **kwargs))))
    options = {"root": str(root), "dest": str(out), "ext": "flac", "seed": 42, "valid_percent": 0.0}
    manifests.main(argparse.Namespace(**options, path_must_contain=fragment))
    os.replace(out / "train.tsv", out / f"{split}.tsv")
    arguments = ["libri_labels.py", str(out / f"{split}.tsv"), "--output-dir", str(out), "--output-name", split]
    monkeypatch.setattr("sys.argv", arguments)
    labels.main()


@pytest.mark.parametrize("split", [*SPLITS, *LIMITED])
def test_every_byte_is_what_fairseqs_own_scripts_write(trees, prepared, tmp_path, monkeypatch, split):
    root, fragment = (trees["limited"], LIMITED[split]) if split in LIMITED else (trees["librispeech"], SPLITS[split])
    fairseqs(root, fragment, split, tmp_path, monkeypatch)
    for kind in ("tsv", "wrd", "ltr"):
        ours, theirs = ((folder / f"{split}.{kind}").read_bytes() for folder in (prepared / "manifests", tmp_path))
        assert ours == theirs
        assert ours


def test_links_are_resolved_as_in_fairseqs_scripts(trees, tmp_path, monkeypatch):
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/dev-clean").symlink_to(trees["librispeech"] / "dev-clean")
    (tmp_path / "theirs").mkdir()
    librispeech.prepare(tmp_path / "ours", DEV, source=tmp_path / "linked")
    fairseqs(tmp_path / "linked", None, "dev_clean", tmp_path / "theirs", monkeypatch)
    for kind in ("tsv", "wrd", "ltr"):
        ours, theirs = (tmp_path / place / f"dev_clean.{kind}" for place in ("ours/manifests", "theirs"))
        assert ours.read_bytes() == theirs.read_bytes()


def test_the_letters_stand_where_public_checkpoints_have_them():
    symbols = [line.split()[0] for line in letter_dictionary().splitlines()]
    blank, *labels = torchaudio.pipelines.WAV2VEC2_ASR_BASE_960H.get_labels()
    assert symbols == labels
    assert blank == "-"


@pytest.mark.parametrize("labels", ["ltr", "spm40"])
def test_fairseqs_fine_tuning_task_loads_audio_and_labels(prepared, tmp_path, labels):
    data = shutil.copytree(prepared / "manifests", tmp_path / "data")
    train([data / "train_960.wrd"], data, name="spm40", size=40)
    label(data / "train_10m.wrd", data / "spm40.model")
    cfg = OmegaConf.structured(AudioFinetuningConfig(data=str(data), labels=labels))
    cfg = OmegaConf.create({**OmegaConf.to_container(cfg, resolve=False, enum_to_str=True), "tpu": False})
    task = AudioFinetuningTask.setup_task(cfg)
    task.load_dataset("train_10m")
    dataset, words = task.datasets["train_10m"], (data / "train_10m.wrd").read_text().splitlines()
    assert len(dataset) == len(words) == 4
    for index, line in enumerate(words):
        item = dataset[index]
        assert task.target_dictionary.unk() not in item["label"].tolist()
        spelled = task.target_dictionary.string(item["label"]).replace(" ", "").replace("|", " ").replace("▁", " ")
        assert spelled.strip() == line
        assert len(item["source"]) > 16000


def test_a_second_call_writes_nothing(trees, prepared, capsys):
    before = stamps(prepared)
    again = librispeech.prepare(prepared, source=trees["librispeech"])
    assert "prepared already" in capsys.readouterr().out
    assert stamps(prepared) == before
    assert again == json.loads((prepared / "librispeech.json").read_text())
    librispeech.prepare(prepared, DEV, source=trees["librispeech"])
    librilight.prepare(prepared, source=trees["limited"])
    assert stamps(prepared) == before


def test_shards_of_the_parts_merge_to_the_whole(trees, prepared, tmp_path, capsys):
    words = ["--out", tmp_path, "--from", trees["librispeech"]]
    for number in (2, 1):
        assert run_with("prepare_librispeech", *words, "--shard", f"{number}/2") == 0
    assert f"ccc-w2v merge {tmp_path}" in capsys.readouterr().out
    assert main(["merge", str(tmp_path)]) == 0
    for path in (prepared / "manifests").glob("train_960.*"):
        assert (tmp_path / "manifests" / path.name).read_bytes() == path.read_bytes()
    assert run_with("prepare_librispeech", *words, "--limited", "--shard", "1/2") == 2
    assert "leave out --limited" in capsys.readouterr().err


def test_parts_come_one_after_the_other_and_the_largest_split_waits_for_all(trees, tmp_path, capsys):
    def call(parts):
        code = run_with("prepare_librispeech", "--out", tmp_path, "--from", trees["librispeech"], "--parts", parts)
        return code, {path.stem for path in (tmp_path / "manifests").glob("*.tsv")}, capsys.readouterr().out

    code, splits, said = call("dev-clean")
    assert code == 0
    assert splits == {"dev_clean"}
    assert "train_960" not in said
    code, splits, said = call("train-clean-100, train-other-500")
    assert code == 0
    assert splits == {"dev_clean", "train_100"}
    assert "train_960 is not written: it needs train-clean-360 too" in said
    before = stamps(tmp_path / "parts")
    code, splits, said = call("train-clean-360")
    assert code == 0
    assert splits == {"dev_clean", "train_100", "train_360", "train_960"}
    assert "not written" not in said
    assert before.items() <= stamps(tmp_path / "parts").items()


def test_a_call_that_was_killed_goes_on_where_it_stopped(trees, tmp_path, monkeypatch):
    parts, look = ("dev-clean", "dev-other"), librispeech.prepare_splits.__globals__["list_utterances"]

    def killed(root, folder, *args, **kwargs):
        if folder == "dev-other":
            raise KeyboardInterrupt
        return look(root, folder, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("ccc_w2v.corpora.librispeech.splits.list_utterances", killed)
        arguments = ("--out", tmp_path, "--from", trees["librispeech"], "--parts", ",".join(parts))
        assert run_with("prepare_librispeech", *arguments) == 130
    assert not (tmp_path / "librispeech.json").exists()
    assert not list((tmp_path / "manifests").iterdir())
    first = stamps(tmp_path)
    done = librispeech.prepare(tmp_path, parts, source=trees["librispeech"])
    assert set(done["splits"]) == {"dev_clean", "dev_other"}
    assert first.items() <= stamps(tmp_path).items()


def test_a_tree_that_moved_is_listed_again(tree, tmp_path):
    librispeech.prepare(tmp_path / "out", DEV, source=tree)
    moved = tree.rename(tmp_path / "elsewhere")
    librispeech.prepare(tmp_path / "out", DEV, source=moved)
    assert read_manifest(tmp_path / "out/manifests/dev_clean.tsv").root == str(moved)


def flip(path):
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tree: flip(tree / f"{FIRST}.flac"), "0000.flac: (cannot be decoded|truncated)"),
        (lambda tree: (tree / f"{FIRST}.flac").write_bytes(b"fLaC"), "0000.flac: not audio"),
        (lambda tree: os.truncate(tree / f"{FIRST}.flac", 9000), "0000.flac: (cannot be decoded|truncated)"),
        (lambda tree: Path(tree / FIRST).with_name("400-4001.trans.txt").unlink(), "0000.flac: no transcript"),
        (lambda tree: edit(tree, "400-4001-0000 ", "400-4001-0009 "), "0000.flac: no transcript"),
        (lambda tree: edit(tree, "400-4001-0000 ", "400-4001-0000 CAFÉ "), "0000.flac: its transcript has 'É'"),
    ],
)
def test_an_utterance_that_cannot_be_used_is_named_and_nothing_is_half_written(tree, tmp_path, capsys, damage, message):
    whole = shutil.copytree(tree, tmp_path / "whole")
    damage(tree)
    out = tmp_path / "out"
    assert run_tool("prepare_librispeech", out=out, **{"from": tree}, parts="dev-clean") == 2
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "of its utterances cannot be used" in lines[0]
    assert "--leave-out-bad" in lines[0]
    assert "unusable: " in printed.out
    assert FIRST in printed.out
    assert not stamps(out)
    with pytest.raises(InputError, match=message):
        librispeech.prepare(out, DEV, source=tree)
    done = librispeech.prepare(out, DEV, source=tree, leave_out_bad=True)
    assert done["splits"]["dev_clean"]["utterances"] in (6, 7)
    assert any(f"left out: {os.path.realpath(tree / FIRST)}" in line for line in done["differences"])
    assert FIRST not in (out / "manifests/dev_clean.tsv").read_text()
    # A call that does not allow it does not take over what was left out.
    with pytest.raises(InputError, match=message):
        librispeech.prepare(out, DEV, source=tree)
    shutil.rmtree(tree)
    whole.rename(tree)
    assert librispeech.prepare(out, DEV, source=tree)["splits"]["dev_clean"]["utterances"] == 8


def edit(tree, old, new):
    path = (tree / FIRST).with_name("400-4001.trans.txt")
    path.write_text(path.read_text().replace(old, new))


def test_what_is_more_than_the_corpus_is_left_out_and_named(tree, tmp_path):
    shutil.copy(tree / f"{FIRST}.flac", tree / "dev-clean/400/copy.flac")
    shutil.copy(tree / f"{FIRST}.flac", (tree / FIRST).with_name("400-4002-0000.flac"))
    shutil.copy(tree / f"{FIRST}.flac", (tree / FIRST).with_name("._400-4001-0000.flac"))
    (tree / "dev-clean/notes.txt").write_text("notes")
    (tree / "dev-clean/.cache/401/4011").mkdir(parents=True)
    shutil.copy(tree / f"{FIRST}.flac", tree / "dev-clean/.cache/401/4011/401-4011-0000.flac")
    edit(tree, "400-4001-0001 ", "400-4001-0007 WORDS ALONE\n400-4001-0001 ")
    done = librispeech.prepare(tmp_path / "out", DEV, source=tree)
    assert done["splits"]["dev_clean"]["utterances"] == 8
    left = [line for line in done["differences"] if "left out" in line]
    assert len(left) == 2
    assert "400/4001/400-4002-0000.flac" in left[0]
    assert "400/copy.flac" in left[1]
    assert any("1 transcripts without a recording, the first is 400-4001-0007" in line for line in done["differences"])


def test_every_difference_from_the_published_corpus_is_named(tree, tmp_path, capsys):
    shutil.rmtree(tree / "dev-clean/407")
    arguments = {"out": tmp_path / "out", "from": tree, "parts": "dev-clean"}
    assert run_tool("prepare_librispeech", **arguments) == 0
    differs = [line for line in capsys.readouterr().err.splitlines() if line.startswith("differs: ")]
    assert differs == [
        "differs: dev-clean: 4 utterances, published 2703",
        "differs: dev-clean: 1 speakers, published 40",
        "differs: dev-clean: 0.00 hours, published 5.4",
        "differs: dev-clean: no utterance of speakers 407",
    ]
    # What is done already says so again.
    assert run_with("prepare_librispeech", *(f"--{key}={value}" for key, value in arguments.items()), "--strict") == 2
    assert capsys.readouterr().err.splitlines()[:-1] == differs


def test_the_published_figures_are_those_of_the_paper():
    table = librispeech.published()
    assert list(table) == list(librispeech.PARTS)
    assert sum(table[part].utterances for part in librispeech.TRAIN) == 281_241
    assert sum(table[part].paper_hours for part in librispeech.TRAIN) == pytest.approx(960.9)
    # The Montreal Forced Aligner's model card counts the whole: 292,367 utterances, 2,484 speakers, 982.10 h.
    assert sum(part.utterances for part in table.values()) == 292_367
    assert sum(part.speakers for part in table.values()) == 2_484
    assert sum(part.paper_hours for part in table.values()) == pytest.approx(982.1)
    assert sum(part.hours for part in table.values()) == pytest.approx(982.1, abs=0.35)
    digests = librispeech.published_md5()
    assert set(digests) == {*(f"{part}.tar.gz" for part in table), "librispeech_finetuning.tgz"}
    assert all(len(bytes.fromhex(md5)) == 16 for md5 in digests.values())


def test_hours_and_counts_of_the_real_corpus_are_no_difference():
    for part, expected in librispeech.published().items():
        size = librispeech.Size(expected.utterances, expected.hours + 0.05, expected.speakers)
        assert librispeech._apart(part, size) == []
    assert librilight._apart("9h", librilight.Size(2400, 9.1, 24), set()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"parts": "dev-clean,train-clean-500"},
            "unknown part 'train-clean-500' of LibriSpeech; known: train-clean-100",
        ),
        ({"from": "{}/nowhere"}, "does not hold LibriSpeech"),
        ({"from": "{}/LibriSpeech"}, "lacks train-clean-100, train-clean-360, train-other-500, dev-other"),
        ({"from": "{}/empty", "parts": "dev-clean"}, "holds no recording"),
        ({"limited-from": "{}/LibriSpeech"}, "does not hold Libri-light's limited sets"),
    ],
)
def test_mistakes_are_one_line(tree, tmp_path, capsys, options, message):
    (tree.parent / "empty/dev-clean").mkdir(parents=True)
    filled = {key: value.format(tree.parent) for key, value in options.items()}
    assert run_tool("prepare_librispeech", out=tmp_path / "out", **filled) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not stamps(tmp_path / "out")


def test_a_wheel_brings_every_manifest():
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[3] / "setup.cfg")
    listed = setup["options.data_files"]["share/ccc_w2v/manifests"].split()
    assert sorted(listed) == sorted(
        f"manifests/{path.name}" for path in librispeech.shared_folder("manifests").iterdir()
    )
