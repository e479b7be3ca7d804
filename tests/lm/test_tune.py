"""Tuning of LM weight and word score: what is counted, how it continues, and that decode.py agrees."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ccc_w2v.cli.main import main
from ccc_w2v.data.manifest import read_manifest, write_manifest
from ccc_w2v.data.trn import read_trn
from ccc_w2v.decode.beam import BeamSettings, beam_search
from ccc_w2v.decode.ctc_model import CtcModel
from ccc_w2v.decode.long_windows import Windows
from ccc_w2v.errors import InputError
from ccc_w2v.lm import tune
from ccc_w2v.lm.tune import COLUMNS, Dev, Ranges, WeightTrial, best_of, dev_set, read_table
from ccc_w2v.lm.tune_plot import plot_trials
from ccc_w2v.score.wer import Counts, score
from tests.run_tool import run_with

pytest.importorskip("flashlight.lib.text", reason="flashlight-text has no wheel for Python 3.13")
pytest.importorskip("kenlm")
pytest.importorskip("optuna")

LABELS = ("<s>", "<pad>", "</s>", "<unk>", "|", *"ACEHIST")
WORDS = ["THE", "CAT", "A", "HAT", "SAT", "IS", "IT", "THAT", "HE"]
TEXTS = ["THE CAT SAT", "A HAT", "THE HAT IS IT", "HE SAT", "THAT IS THE CAT", "IT IS A CAT", "HE IS IT", "A CAT"]
RANGES = Ranges((0, 4), (-2, 2))


def arpa_of(unigrams: list[str], bigram: str) -> str:
    entries = "\n".join(f"{row}\t0" for row in ["-2\t<unk>", "0\t<s>", "-0.7\t</s>", *unigrams])
    counts = f"ngram 1={3 + len(unigrams)}\nngram 2=1"
    return f"\\data\\\n{counts}\n\n\\1-grams:\n{entries}\n\n\\2-grams:\n{bigram}\n\n\\end\\\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A word model that likes "THE" and "IS", and a lexicon of all words."""
    folder = tmp_path_factory.mktemp("lm")
    rows = [f"{-0.5 if word in ('THE', 'IS') else -1.3}\t{word}" for word in WORDS]
    (folder / "words.arpa").write_text(arpa_of(rows, "-0.2\tTHE CAT"))
    (folder / "words.txt").write_text("".join(f"{word}\n" for word in WORDS))
    return folder


@pytest.fixture(scope="module")
def settings(files: Path) -> BeamSettings:
    return BeamSettings(20, lm=str(files / "words.arpa"), lexicon=str(files / "words.txt"))


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Dev:
    """Texts whose letters a network half hears."""
    folder, generator = tmp_path_factory.mktemp("dev"), torch.Generator().manual_seed(0)
    entries = []
    for index, text in enumerate(TEXTS):
        frames = [symbol for letter in text.replace(" ", "|") + "|" for symbol in (LABELS.index(letter), 0)]
        heard_TV = 3.0 * torch.nn.functional.one_hot(torch.tensor(frames), len(LABELS)).float()
        heard_TV += 1.6 * torch.randn(heard_TV.shape, generator=generator)
        np.save(folder / f"u{index}.npy", heard_TV.log_softmax(-1).numpy())
        entries.append((f"u{index}.wav", 320 * (len(frames) - 1) + 400))
    write_manifest(folder / "dev.tsv", folder, entries)
    (folder / "dev.wrd").write_text("".join(f"{text.lower()}\n" for text in TEXTS))
    model = CtcModel(torch.nn.Module(), LABELS, 0, 16000, False, "letter", 400, 320, False)
    return dev_set(model, read_manifest(folder / "dev.tsv"), folder, "librispeech", None)


@pytest.fixture(scope="module")
def uninterrupted(dev: Dev, settings: BeamSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = tmp_path_factory.mktemp("tuned") / "trials.tsv"
    tune.tune(dev, settings, RANGES, table, trials=16, seed=3, processes=2)
    return table


def test_each_trial_is_that_decoding(dev: Dev, settings: BeamSettings, uninterrupted: Path) -> None:
    trials = read_table(uninterrupted)
    assert len(trials) == 16
    assert (trials[0].lm_weight, trials[0].word_score) == (settings.lm_weight, settings.word_score) == (2.0, 0.0)
    assert best_of(trials).error_rate < trials[0].error_rate
    assert len({(trial.lm_weight, trial.word_score) for trial in trials}) > 12
    for trial in (trials[0], best_of(trials), trials[-1]):
        assert 0 <= trial.lm_weight <= 4
        assert -2 <= trial.word_score <= 2
        search = beam_search(
            dev.model, dataclasses.replace(settings, lm_weight=trial.lm_weight, word_score=trial.word_score)
        )
        texts = {
            f"u{index}": search(torch.from_numpy(np.load(dev.logits_dir / f"u{index}.npy")))[0].text
            for index in range(len(TEXTS))
        }
        assert trial.counts == score({f"u{index}": text for index, text in enumerate(TEXTS)}, texts).total
    lines = uninterrupted.read_text().splitlines()
    assert lines[0].split("\t") == list(COLUMNS)
    assert all(line.split("\t")[0] == str(number) for number, line in enumerate(lines[1:]))


def test_a_stopped_search_ends_as_an_uninterrupted_one(
    dev: Dev, settings: BeamSettings, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, run_trial, ran = tmp_path / "trials.tsv", tune.run_trial, []

    def stopped_at_the_thirteenth(*args: object) -> WeightTrial:
        ran.append(args)
        if len(ran) == 13:
            raise KeyboardInterrupt
        return run_trial(*args)

    monkeypatch.setattr(tune, "run_trial", stopped_at_the_thirteenth)
    with pytest.raises(KeyboardInterrupt):
        tune.tune(dev, settings, RANGES, table, trials=16, seed=3)
    assert len(read_table(table)) == 12
    # Fewer trials than the table holds are those; more continue.
    assert len(tune.tune(dev, settings, RANGES, table, trials=5, seed=3)) == 5
    tune.tune(dev, settings, RANGES, table, trials=16, seed=3)
    assert len(ran) == 13 + 4
    assert table.read_bytes() == uninterrupted.read_bytes()


def test_other_seeds_propose_others(dev: Dev, settings: BeamSettings, uninterrupted: Path, tmp_path: Path) -> None:
    trials = tune.tune(dev, settings, RANGES, tmp_path / "t", trials=3, seed=4)
    assert trials[0] == read_table(uninterrupted)[0]
    assert trials[1:] != read_table(uninterrupted)[1:3]
    # Untuned weights outside of the ranges are counted, and proposed by nobody.
    (untuned, *others) = tune.tune(dev, settings, Ranges((3, 4), (1, 2)), tmp_path / "outside", trials=3)
    assert untuned == trials[0]
    assert all(3 <= trial.lm_weight <= 4 and 1 <= trial.word_score <= 2 for trial in others)


def test_long_recordings_are_searched_in_the_pieces_of_decode(dev: Dev, settings: BeamSettings) -> None:
    segments = [segment for segment, _ in dataclasses.replace(dev, windows=Windows(12, 2)).segments()]
    assert len([segment for segment in segments if segment.last]) == len(TEXTS) < len(segments)


def test_without_a_lexicon_only_the_weight_is_searched(dev: Dev, tmp_path: Path) -> None:
    symbols = [f"-1\t{label}" for label in LABELS if label not in ("<s>", "</s>", "<unk>")]
    (tmp_path / "letters.arpa").write_text(arpa_of(symbols, "-0.2\tT H"))
    settings = BeamSettings(10, lm=str(tmp_path / "letters.arpa"))
    trials = tune.tune(dev, settings, RANGES, tmp_path / "t", trials=4)
    assert {trial.word_score for trial in trials} == {0.0}
    assert len({trial.lm_weight for trial in trials}) > 2
    plot_trials(tmp_path / "t.png", trials, words_scored=False)
    assert is_picture(tmp_path / "t.png")
    assert tune.options_of(settings, trials[0]) == f"--beam 10 --lm {tmp_path}/letters.arpa --lm-weight 2.0"


def is_picture(path: Path) -> bool:
    from matplotlib.image import imread

    pixels = imread(path)
    return pixels.shape[0] > 300 and len(np.unique(pixels[:, :, 0])) > 20


@pytest.mark.parametrize("weights", [[(1, 0)], [(1, 0), (2, 0), (3, 0)], [(1, 0), (1, 2), (3, 1), (2, 0.5)]])
def test_any_trials_are_drawn(tmp_path: Path, weights: list[tuple[float, float]]) -> None:
    for rates in ([9] * len(weights), [9 + index for index in range(len(weights))]):
        trials = [WeightTrial(*pair, Counts(errors, 0, 0, 100)) for pair, errors in zip(weights, rates, strict=True)]
        plot_trials(tmp_path / "t.png", trials, words_scored=True)
        assert is_picture(tmp_path / "t.png")


def test_tool_finds_weights_with_which_decode_is_as_good(
    checkpoint: Path, test_set: Path, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    options = ["--checkpoint", checkpoint, "--manifest", test_set]
    searched = ["--beam", 10, "--lm", files / "words.arpa", "--lexicon", files / "words.txt"]
    tuned = [*options, "--out", tmp_path / "tuned", *searched, "--word-scores", -1, 3]
    assert run_with("tune_lm", *tuned, "--trials", 3) == 0
    *_, untuned, best, _, printed = capsys.readouterr().out.splitlines()
    assert untuned.startswith("untuned  LM weight 2, word score 0: WER ")
    assert is_picture(tmp_path / "tuned" / "trials.png")
    assert run_with("decode", *options, "--out", tmp_path / "decoded", *shlex.split(printed)) == 0
    total = score(read_trn(tmp_path / "decoded" / "ref.trn"), read_trn(tmp_path / "decoded" / "hyp.trn")).total
    assert best.endswith(f"WER {100 * total.errors / total.words:.2f} % ({total.errors} errors in {total.words} words)")

    # More trials need no network; another beam is another search, and may share the log-probabilities.
    monkeypatch.setattr("ccc_w2v.decode.log_probs.emit", lambda *args: pytest.fail("the network ran again"))
    assert run_with("tune_lm", *tuned, "--trials", 5) == 0
    assert len(read_table(tmp_path / "tuned" / "trials.tsv")) == 5
    capsys.readouterr()
    assert run_with("tune_lm", *tuned, "--beam", 11) == 2
    assert "tuned: exists already, made with other settings (beam); name another output" in capsys.readouterr().err
    other = ["--out", tmp_path / "other", "--cache", tmp_path / "tuned" / "dev", "--trials", 1]
    assert run_with("tune_lm", *options, *searched, *other) == 0


def test_log_probabilities_may_come_from_a_decoding_in_shards(
    checkpoint: Path, test_set: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--checkpoint", checkpoint, "--manifest", test_set]
    for number in (1, 2):
        assert run_with("decode", *options, "--logits", "--out", tmp_path / "dev", "--shard", f"{number}/2") == 0
    assert main(["merge", str(tmp_path / "dev")]) == 0
    monkeypatch.setattr("ccc_w2v.decode.log_probs.emit", lambda *args: pytest.fail("the network ran again"))
    searched = ["--beam", 10, "--lm", files / "words.arpa", "--lexicon", files / "words.txt", "--trials", 1]
    assert run_with("tune_lm", *options, *searched, "--out", tmp_path / "tuned", "--cache", tmp_path / "dev") == 0
    assert len(read_table(tmp_path / "tuned" / "trials.tsv")) == 1


def test_refusals(
    checkpoint: Path, test_set: Path, dev: Dev, settings: BeamSettings, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    options = ["--checkpoint", checkpoint, "--manifest", test_set, "--out", tmp_path / "out"]
    assert run_with("tune_lm", *options) == 2
    assert "only beam search has weights to tune; give --beam" in capsys.readouterr().err
    assert run_with("tune_lm", *options, "--beam", 5, "--trials", 0) == 2
    listed = read_manifest(test_set)
    write_manifest(tmp_path / "bare.tsv", listed.root, [(listed.entries[0].path, listed.entries[0].samples)])
    assert run_with("tune_lm", *options, "--beam", 5, "--manifest", tmp_path / "bare.tsv") == 2
    assert "bare.wrd: no such references; weights are tuned on utterances whose words are known" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="there are no weights to tune without a language model; give --lm"):
        tune.tune(dev, BeamSettings(5), RANGES, tmp_path / "t", trials=1)
    with pytest.raises(InputError, match=r"lm weights from 2 to 2; expected a lower and a higher number"):
        tune.tune(dev, settings, Ranges((2, 2), (0, 1)), tmp_path / "t", trials=1)
    (tmp_path / "t").write_text("trial\tlm_weight\n")
    with pytest.raises(InputError, match=r"t: not a table of ccc-w2v tune"):
        tune.tune(dev, settings, RANGES, tmp_path / "t", trials=1)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"tuning needs optuna: pip install 'ccc-w2v\[lm\]'"):
        tune.tune(dev, settings, RANGES, tmp_path / "other", trials=1)
