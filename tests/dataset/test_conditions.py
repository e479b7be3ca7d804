"""Test sets under fixed conditions: drawn once, the same again, with the original's ids and words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ccc_w2v.augment.pipeline import load_pipeline
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.data.trn import utterance_ids
from ccc_w2v.dataset.conditions import write_conditions
from ccc_w2v.errors import InputError
from tests.corpora.killed import killed_after
from tests.fake_corpora import RATE, write_corpus, write_labels
from tests.run_tool import run_tool, run_with

CONDITIONS = sorted((Path(__file__).parents[2] / "recipes/small/conditions").glob("*.yaml"))
NOISY = [path for path in CONDITIONS if path.stem.startswith("noise")]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    manifest = write_corpus(folder, [16000, 24000, 20001], name="test")
    write_labels(manifest, ["A B", "C", "A"])
    return manifest, write_corpus(folder, [30000, 12000], name="noise_test", seed=50)


def audio(manifest):
    listed = read_manifest(manifest)
    return [soundfile.read(listed.audio_path(entry))[0] for entry in listed.entries]


def test_the_recipes_conditions_are_five_and_differ_in_their_signal_to_noise_ratio(corpus, tmp_path):
    assert [path.stem for path in CONDITIONS] == ["noise0", "noise10", "noise20", "rooms", "telephone"]
    written = write_conditions(corpus[0], NOISY, tmp_path, noise_manifest=corpus[1])
    for name, snr_db in (("noise0", 0), ("noise10", 10), ("noise20", 20)):
        for clean, noisy in zip(audio(corpus[0]), audio(written[name]), strict=True):
            # The mixture has the level of the speech: its part of the speech is found by projection.
            share = clean @ noisy / (clean @ clean)
            noise = noisy - share * clean
            assert 10 * np.log10((share * clean) @ (share * clean) / (noise @ noise)) == pytest.approx(snr_db, abs=1)


def test_ids_words_and_lengths_are_the_originals(corpus, tmp_path):
    write_conditions(corpus[0], NOISY[:1], tmp_path, noise_manifest=corpus[1])
    original, written = read_manifest(corpus[0]), read_manifest(tmp_path / "test_noise0.tsv")
    assert utterance_ids(written) == utterance_ids(original)
    assert [entry.samples for entry in written.entries] == [len(wave) for wave in audio(tmp_path / "test_noise0.tsv")]
    for kind in (".wrd", ".ltr"):
        assert (tmp_path / "test_noise0.tsv").with_suffix(kind).read_text() == corpus[0].with_suffix(kind).read_text()
    assert (tmp_path / "dict.ltr.txt").is_file()


def test_the_same_call_draws_the_same_and_another_seed_another(corpus, tmp_path):
    options = {"noise_manifest": corpus[1]}
    pipelines = [NOISY[0], CONDITIONS[-1]]
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_conditions(corpus[0], pipelines, tmp_path / name, seed=seed, **options)
    for condition in ("noise0", "telephone"):
        a, b, c = (audio(tmp_path / name / f"test_{condition}.tsv") for name in "abc")
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
        assert not any(np.array_equal(x, y) for x, y in zip(a, c, strict=True))


def test_rooms_are_outside_the_trainings_ranges():
    hall = load_pipeline(CONDITIONS[3], RATE).transforms[0].transform
    trained = type(hall)(RATE)
    assert hall.rt60_s.low > trained.rt60_s.high
    assert hall.edge_m.low > trained.edge_m.high
    assert hall.height_m.low > trained.height_m.high
    # Every room of the pool can be simulated with the direct path in front.
    for room in range(3):
        response, direct = hall.response(room)
        assert abs(int(response.abs().argmax()) - direct) <= 1


def test_a_condition_that_was_begun_is_finished_and_one_of_other_settings_refused(corpus, tmp_path):
    options = {"noise_manifest": corpus[1]}
    with killed_after(2):
        write_conditions(corpus[0], NOISY[:1], tmp_path / "out", **options)
    assert not (tmp_path / "out/test_noise0.tsv").exists()
    write_conditions(corpus[0], NOISY[:1], tmp_path / "out", **options)
    write_conditions(corpus[0], NOISY[:1], tmp_path / "straight", **options)
    pairs = zip(audio(tmp_path / "out/test_noise0.tsv"), audio(tmp_path / "straight/test_noise0.tsv"), strict=True)
    assert all(np.array_equal(x, y) for x, y in pairs)
    with pytest.raises(InputError, match=r"made with other settings \(seed\)"):
        write_conditions(corpus[0], NOISY[:1], tmp_path / "out", seed=7, **options)
    before = audio(tmp_path / "out/test_noise0.tsv")
    write_conditions(corpus[0], NOISY[:1], tmp_path / "out", seed=7, overwrite=True, **options)
    assert not np.array_equal(before[0], audio(tmp_path / "out/test_noise0.tsv")[0])


def test_bad_options_are_one_line(corpus, tmp_path, capsys):
    for pipelines, message in ((["{n}"], "noise"), (["none.yaml"], "none.yaml"), (["{n}", "{n}"], "each name once")):
        named = [part.format(n=NOISY[0]) for part in pipelines]
        assert run_with("prepare_conditions", "--manifest", corpus[0], "--out", tmp_path, "--pipelines", *named) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert message in error
    assert run_tool("prepare_conditions", manifest=tmp_path / "x.tsv", pipelines=NOISY[0], out=tmp_path) == 2
