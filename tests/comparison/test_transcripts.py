"""Archived transcripts of chains: they stand for the chain; those of other settings and broken ones are refused."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from pathlib import Path

import pytest

from ccc_w2v.comparison.chain import claim_chain, run_chain
from ccc_w2v.comparison.results import measure_comparison
from ccc_w2v.comparison.settings import SearchedLanguageModel, Settings, choose_arms, load_scale
from ccc_w2v.comparison.transcripts import archive_of, keep_transcripts, take_transcripts
from ccc_w2v.errors import InputError

RECIPE = Path(__file__).resolve().parents[2] / "recipes/small"
TEXTS = {"1-2-0000": "the tame hen", "1-2-0001": "two hens", "3-4-0000": "a fox"}


@pytest.fixture
def recipe(tmp_path):
    """A recipe with the arms of the real one and one condition beside clean."""
    (tmp_path / "recipe/conditions").mkdir(parents=True)
    (tmp_path / "recipe/config").symlink_to(RECIPE / "config")
    (tmp_path / "recipe/conditions/noise10.yaml").touch()
    return tmp_path / "recipe"


def settings(recipe, out, **changed):
    values = {"recipe": recipe, "data": recipe.parent / "data", "out": out, "seeds": (1,), "labels": ("10m",)}
    return Settings(**{**values, "arms": choose_arms(recipe, ["none"]), "scale": load_scale(recipe, "tiny"), **changed})


def trn(texts):
    return "".join(f"{text} ({name})\n" for name, text in texts.items())


def finish(comparison, number=0, seed=1):
    """Write what the chain of an arm, by its number, leaves, each cell with hypotheses of its own; returns the arm."""
    arm = comparison.arms[number]
    folder = comparison.folder(arm, seed)
    claim_chain(folder, arm)
    for lost, cell in enumerate(comparison.cells, number * seed):
        texts = comparison.transcripts(arm, seed, *cell)
        texts.mkdir(parents=True)
        (texts / "ref.trn").write_text(trn(TEXTS))
        (texts / "hyp.trn").write_text(trn({name: text[lost:] for name, text in TEXTS.items()}))
    tuned = {"10m": {"chosen": "all", "dev": {"all": 50.0}}}
    chain = {"arm": arm.name, "seed": seed, "commit": "c0ffee", "encoder_passes": 0, "pretraining_seconds": 0.0}
    (folder / "chain.json").write_text(json.dumps({**chain, "finetuning_seconds": {"10m": 2.5}, "finetuning": tuned}))
    return arm


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


def test_a_comparison_has_the_difference_of_each_common_seed(recipe, tmp_path):
    comparison = settings(recipe, tmp_path / "out", arms=choose_arms(recipe, ["none", "wav2vec2"]), seeds=(1, 2, 3))
    for number, seed in ((0, 1), (0, 2), (0, 3), (1, 1), (1, 3)):
        finish(comparison, number, seed)
    results = measure_comparison(comparison)
    for pair in results["comparisons"]:
        rates = {
            (row["arm"], row["seed"]): row["cer"]
            for row in results["rows"]
            if all(row[key] == pair[key] for key in ("labels", "condition", "decoder"))
        }
        assert pair["seeds"] == [1, 3]
        expected = [rates["wav2vec2", seed] - rates["none", seed] for seed in (1, 3)]
        assert pair["seed_differences"]["cer"] == expected
        assert expected[0] != expected[1]
        assert sum(pair["seed_interval"]["cer"]) / 2 == pytest.approx(sum(expected) / 2)
        assert pair["cer"]["value"] == pytest.approx(sum(expected) / 2)


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
