"""Archived transcripts of chains: they stand for the chain; those of other settings and broken ones are refused."""

from __future__ import annotations

import dataclasses
import io
import tarfile

import pytest

from ccc_w2v.comparison.chain import run_chain
from ccc_w2v.comparison.results import measure_comparison
from ccc_w2v.comparison.run import take_finished
from ccc_w2v.comparison.settings import SearchedLanguageModel, choose_arms
from ccc_w2v.comparison.transcripts import archive_of, keep_transcripts, take_transcripts
from ccc_w2v.errors import InputError
from tests.comparison.chains import TEXTS, finish, settings, trn


def test_a_chain_taken_from_its_transcripts_measures_as_the_one_that_ran(recipe, tmp_path):
    ran = settings(recipe, tmp_path / "ran")
    arm = finish(ran)
    archive = keep_transcripts(ran, arm, 1, tmp_path / "kept")
    assert archive == archive_of(tmp_path / "kept", arm, 1)
    taken = settings(recipe, tmp_path / "elsewhere/taken", device="cuda")
    assert take_transcripts(taken, arm, 1, tmp_path / "kept")
    assert measure_comparison(taken) == measure_comparison(ran)
    assert len(measure_comparison(ran)["rows"]) == 4
    updates = []
    run_chain(taken, arm, 1, "another", updates.append)  # finds nothing to do
    assert len(updates) == 1
    assert not take_transcripts(taken, arm, 1, tmp_path / "kept")
    assert not take_transcripts(taken, arm, 2, tmp_path / "kept")


def test_results_of_what_has_ended_are_of_the_seeds_that_each_arm_has(recipe, tmp_path):
    arms = choose_arms(recipe, ["none", "wav2vec2"])
    here = settings(recipe, tmp_path / "here", arms=arms, seeds=(1, 2), kept=tmp_path / "kept")
    with pytest.raises(InputError, match=r"has ended in .*here, nor among .*kept; leave out --finished"):
        take_finished(here)
    assert not list(tmp_path.glob("here/*"))
    finish(here, 0, seed=1)
    elsewhere = settings(recipe, tmp_path / "elsewhere", arms=arms, seeds=(2,))
    for number in (0, 1):
        keep_transcripts(elsewhere, finish(elsewhere, number, seed=2), 2, tmp_path / "kept")
    take_finished(here)
    results = measure_comparison(here)
    assert {(row["arm"], row["seed"]) for row in results["rows"]} == {("none", 1), ("none", 2), ("wav2vec2", 2)}
    assert {(pair["a"], pair["b"], *pair["seeds"]) for pair in results["comparisons"]} == {("wav2vec2", "none", 2)}


def test_the_same_chain_gives_the_same_bytes(recipe, tmp_path):
    comparison = settings(recipe, tmp_path / "out")
    arm = finish(comparison)
    first = keep_transcripts(comparison, arm, 1, tmp_path / "a")
    assert first.read_bytes() == keep_transcripts(comparison, arm, 1, tmp_path / "b").read_bytes()
    before = first.stat().st_mtime_ns
    assert keep_transcripts(comparison, arm, 1, tmp_path / "a").stat().st_mtime_ns == before


def other_scale(comparison):
    return dataclasses.replace(comparison.scale, updates=5)


def test_transcripts_of_other_settings_are_refused(recipe, tmp_path):
    comparison = settings(recipe, tmp_path / "out")
    arm = finish(comparison)
    keep_transcripts(comparison, arm, 1, tmp_path / "kept")
    other_arm = dataclasses.replace(arm, overrides={"model.dropout": 0.1})
    (tmp_path / "words").write_text("a")
    searched = SearchedLanguageModel(str(tmp_path / "words"), str(tmp_path / "words"))
    for changed, arm_wanted, said in (
        ({"scale": other_scale(comparison)}, arm, r"other settings \(scale\)"),
        ({}, other_arm, r"other settings \(arm\)"),
        ({"data": tmp_path / "other_speech"}, arm, r"other settings \(test set\)"),
        ({"labels": ("10m", "1h")}, arm, "lacks greedy_1h/clean/ref.trn"),
        ({"language_model": searched}, arm, "lacks lm_10m/clean/ref.trn"),
    ):
        other = settings(recipe, tmp_path / "other", **changed)
        with pytest.raises(InputError, match=said):
            take_transcripts(other, arm_wanted, 1, tmp_path / "kept")
        assert not (tmp_path / "other").exists()


def test_a_language_model_is_known_by_its_content(recipe, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).write_text("the same n-grams")
    searched = [SearchedLanguageModel(str(tmp_path / name), str(tmp_path / name)) for name in ("one", "two")]
    comparison = settings(recipe, tmp_path / "out", language_model=searched[0])
    arm = finish(comparison)
    keep_transcripts(comparison, arm, 1, tmp_path / "kept")
    assert take_transcripts(settings(recipe, tmp_path / "other", language_model=searched[1]), arm, 1, tmp_path / "kept")
    (tmp_path / "two").write_text("other n-grams")
    with pytest.raises(InputError, match=r"other settings \(language model\)"):
        take_transcripts(settings(recipe, tmp_path / "third", language_model=searched[1]), arm, 1, tmp_path / "kept")


def test_a_condition_added_to_transcripts_without_networks_is_refused(recipe, tmp_path):
    comparison = settings(recipe, tmp_path / "out")
    arm = finish(comparison)
    keep_transcripts(comparison, arm, 1, tmp_path / "kept")
    taken = settings(recipe, tmp_path / "taken")
    take_transcripts(taken, arm, 1, tmp_path / "kept")
    (recipe / "conditions/rooms.yaml").touch()
    with pytest.raises(InputError, match="lacks greedy_10m/rooms/ref.trn"):
        take_transcripts(taken, arm, 1, tmp_path / "kept")
    with pytest.raises(InputError, match="without the networks that wrote them"):
        run_chain(taken, arm, 1, "commit", lambda _: None)


def test_an_archive_of_another_run_is_neither_kept_silently_nor_replaced(recipe, tmp_path):
    comparison = settings(recipe, tmp_path / "out")
    arm = finish(comparison)
    path = keep_transcripts(comparison, arm, 1, tmp_path / "kept")
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"other settings \(scale\)"):
        keep_transcripts(dataclasses.replace(comparison, scale=other_scale(comparison)), arm, 1, tmp_path / "kept")
    texts = comparison.transcripts(arm, 1, *comparison.cells[0])
    (texts / "hyp.trn").write_text(trn(dict.fromkeys(TEXTS, "another")))
    with pytest.raises(InputError, match=r"its greedy_10m/clean/hyp.trn is of another run of this arm and seed"):
        keep_transcripts(comparison, arm, 1, tmp_path / "kept")
    assert path.read_bytes() == before


def test_a_condition_that_was_added_is_added_to_the_archive(recipe, tmp_path):
    comparison = settings(recipe, tmp_path / "out")
    arm = finish(comparison)
    path = keep_transcripts(comparison, arm, 1, tmp_path / "kept")
    before = path.read_bytes()
    (recipe / "conditions/rooms.yaml").touch()
    for cell in comparison.cells:
        if cell[2] == "rooms":
            texts = comparison.transcripts(arm, 1, *cell)
            texts.mkdir(parents=True)
            (texts / "ref.trn").write_text(trn(TEXTS))
            (texts / "hyp.trn").write_text(trn(TEXTS))
    keep_transcripts(comparison, arm, 1, tmp_path / "kept")
    assert path.read_bytes() != before
    taken = settings(recipe, tmp_path / "taken")
    assert take_transcripts(taken, arm, 1, tmp_path / "kept")
    assert measure_comparison(taken) == measure_comparison(comparison)


def damaged(path, how):
    content = path.read_bytes()
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "text":
        path.write_text("no archive")
    elif how == "made.json":
        with tarfile.open(path) as archive:
            members = {member.name: archive.extractfile(member).read() for member in archive}
        members[how] = b"[1,"
        with tarfile.open(path, "w:xz") as archive:
            for name, text in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text))


@pytest.mark.parametrize("how", ["cut", "text", "made.json"])
def test_a_damaged_archive_is_one_sentence_and_leaves_nothing(how, recipe, tmp_path):
    comparison = settings(recipe, tmp_path / "out")
    arm = finish(comparison)
    damaged(keep_transcripts(comparison, arm, 1, tmp_path / "kept"), how)
    other = settings(recipe, tmp_path / "other")
    with pytest.raises(InputError, match=r"none_seed1.tar.xz: not a readable archive of transcripts"):
        take_transcripts(other, arm, 1, tmp_path / "kept")
    assert not (tmp_path / "other").exists()
