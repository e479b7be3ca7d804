"""Pipelines: presets, every mistake a YAML can hold, coins, draws that do not disturb each other."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
import yaml

from ccc_w2v import shared_files
from ccc_w2v.augment.base import Parameters, Transform
from ccc_w2v.augment.noise import GaussianNoise
from ccc_w2v.augment.pipeline import TRANSFORMS, Pipeline, RandomTransform, load_pipeline, presets_folder
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.errors import InputError

from .conftest import RATE

SAMPLES = 8000


def load(folder: Path, transforms: object, **overrides: object) -> Pipeline:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"transforms": transforms}))
    return load_pipeline(path, RATE, **overrides)


def white(rows: int) -> torch.Tensor:
    return 0.1 * torch.randn(rows, SAMPLES, generator=torch.Generator().manual_seed(0))


def generators(*numbers: int) -> list[torch.Generator]:
    return [generator_for(0, "pipeline", number) for number in numbers]


@pytest.mark.parametrize("preset", [path.stem for path in presets_folder().glob("*.yaml")])
def test_every_preset_builds_and_pickles(preset, noise_manifest):
    built = load_pipeline(preset, RATE, noise_manifest=noise_manifest)
    copy = pickle.loads(pickle.dumps(built))
    assert copy.draw(*generators(3), SAMPLES) == built.draw(*generators(3), SAMPLES)


def test_the_presets_are_the_documented_ones():
    assert {path.stem for path in presets_folder().glob("*.yaml")} == {
        *("none", "noise_reverb", "paper", "paper_freeverb", "rooms", "telephone")
    }


def test_the_paper_preset_leaves_2_4_percent_untouched(noise_manifest):
    paper = load_pipeline("paper", RATE, noise_manifest=noise_manifest)
    assert [(part.transform.name, part.p) for part in paper.transforms] == [
        ("gaussian_noise", 0.6),
        ("reverb", 0.7),
        ("background_noise", 0.8),
    ]
    assert paper.untouched == pytest.approx(0.024)
    draws = [paper.draw(generator_for(0, "coins", n), SAMPLES) for n in range(4000)]
    for share, count in ((0.024, sum(not any(row) for row in draws)), (0.6, sum(row[0] is not None for row in draws))):
        # Four standard deviations of a binomial distribution.
        assert count / 4000 == pytest.approx(share, abs=4 * (share * (1 - share) / 4000) ** 0.5)
    # Independent coins: both of two come up with the product of their probabilities.
    both = sum(row[0] is not None and row[2] is not None for row in draws) / 4000
    assert both == pytest.approx(0.48, abs=4 * (0.48 * 0.52 / 4000) ** 0.5)


def test_no_transforms_give_the_same_waves():
    waves = white(2)
    out = load_pipeline("none", RATE)(waves, generators(0, 1))
    assert torch.equal(out, waves)
    assert out.data_ptr() != waves.data_ptr()


def test_an_utterance_alone_equals_itself_in_a_batch(tmp_path, noise_manifest, reverb):
    built = load(
        tmp_path, [{"name": "gaussian_noise", "p": 0.5}, {"name": "background_noise"}], noise_manifest=noise_manifest
    )
    built = Pipeline([*built.transforms, RandomTransform(0.7, reverb)])
    waves = white(6)
    together = built(waves, generators(*range(6)))
    for n in range(6):
        torch.testing.assert_close(built(waves[n : n + 1], generators(n))[0], together[n], atol=1e-5, rtol=0)
    torch.testing.assert_close(built(waves.flip(0), generators(*range(6)[::-1])).flip(0), together, atol=1e-5, rtol=0)
    assert torch.equal(built(waves, generators(*range(6))), together)


def test_draws_replay_from_json(tmp_path, noise_manifest):
    built = load(
        tmp_path, [{"name": "gaussian_noise", "p": 0.5}, {"name": "background_noise"}], noise_manifest=noise_manifest
    )
    waves = white(4)
    drawn = [built.draw(own, SAMPLES) for own in generators(0, 1, 2, 3)]
    assert torch.equal(built.apply(waves, json.loads(json.dumps(drawn))), built(waves, generators(0, 1, 2, 3)))


def test_untouched_rows_are_bit_equal(tmp_path):
    built = load(tmp_path, [{"name": "gaussian_noise", "p": 0.5}] * 2)
    waves = white(40)
    drawn = [built.draw(own, SAMPLES) for own in generators(*range(40))]
    untouched = torch.tensor([not any(row) for row in drawn])
    assert 0 < untouched.sum() < 40
    out = built.apply(waves, drawn)
    assert torch.equal(out[untouched], waves[untouched])
    assert (out[~untouched] != waves[~untouched]).any(dim=1).all()


def test_another_probability_leaves_the_other_draws_as_they_were(tmp_path):
    def draws(first_p: float) -> list:
        built = load(tmp_path, [{"name": "gaussian_noise", "p": first_p}, {"name": "gaussian_noise"}])
        return [built.draw(own, SAMPLES) for own in generators(*range(20))]

    never, always, sometimes = draws(0.0), draws(1.0), draws(0.5)
    assert [row[1] for row in never] == [row[1] for row in always] == [row[1] for row in sometimes]
    assert all(row[0] is None for row in never)
    kept = [(some[0], full[0]) for some, full in zip(sometimes, always, strict=True) if some[0] is not None]
    assert kept
    assert all(some == full for some, full in kept)


def test_paths_are_relative_to_the_yaml_and_overridden_by_the_argument(tmp_path, noise_manifest):
    entry = {"name": "background_noise", "manifest": "../noise.tsv"}
    (tmp_path / "recipe").mkdir()
    (tmp_path / "noise.tsv").write_text(noise_manifest.read_text())
    for override in (None, ""):
        part = load(tmp_path / "recipe", [entry], noise_manifest=override).transforms[0]
        assert part.transform.manifest.resolve() == (tmp_path / "noise.tsv").resolve()
    assert (
        load(tmp_path / "recipe", [entry], noise_manifest=noise_manifest).transforms[0].transform.manifest
        == noise_manifest
    )


def test_a_preset_without_its_noise_manifest_names_the_key_to_set():
    with pytest.raises(InputError, match=r"paper.yaml: transform 3 \(background_noise\).*set task.noise_manifest"):
        load_pipeline("paper", RATE)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"name": "gausian_noise"},
            r"unknown transform 'gausian_noise'; known: gaussian_noise, background_noise, music",
        ),
        ({"p": 0.5}, "unknown transform None"),
        ({"name": "gaussian_noise", "std": 1}, r"\(gaussian_noise\): unknown key 'std'; known: p, std_ratio"),
        ({"name": "reverb", "sample_rate": 8000}, "unknown key 'sample_rate'"),
        ({"name": "reverb", "p": 1.5}, r"\(reverb\): p: expected a number from 0 to 1, found 1.5"),
        ({"name": "reverb", "p": -0.1}, "from 0 to 1, found -0.1"),
        ({"name": "reverb", "p": True}, "p: expected a number, found True"),
        ({"name": "reverb", "p": float("nan")}, "found nan"),
        ({"name": "reverb", "p": "often"}, "p: expected a number, found 'often'"),
        ({"name": "reverb", "rt60_s": [1.0, 0.1]}, r"\(reverb\): rt60_s: the range \[1.0, 0.1\] is upside down"),
        ({"name": "reverb", "rt60_s": [0.1, 60]}, "rt60_s: expected a number from 0.05 to 5, found 60"),
        ({"name": "reverb", "rt60_s": 0.4}, r"rt60_s: expected a range \[low, high\], found 0.4"),
        ({"name": "reverb", "rt60_s": [0.1, 0.2, 0.3]}, "expected a range"),
        ({"name": "reverb", "rt60_s": ["low", 1]}, "expected a number, found 'low'"),
        ({"name": "reverb", "rooms": 2.5}, "rooms: expected a whole number, found 2.5"),
        ({"name": "reverb", "rooms": 0}, "rooms: expected a whole number from 1 to inf, found 0"),
        ({"name": "gaussian_noise", "std_ratio": [-0.1, 0.5]}, "std_ratio: expected a number from 0"),
        ({"name": "background_noise", "manifest": "n.tsv", "snr_db": [0, float("inf")]}, "snr_db: .*found inf"),
        (
            {"name": "background_noise", "manifest": "n.tsv", "snr_db": [15, 0]},
            r"snr_db: the range \[15, 0\] is upside",
        ),
        ({"name": "background_noise", "manifest": 3}, "manifest: expected a path, found 3"),
        ({"name": "background_noise", "manifest": "gone.tsv"}, "gone.tsv: no such noise manifest"),
        ({"name": "telephone", "law": "u"}, r"\(telephone\): law: expected one of mu, a, both, found 'u'"),
        ({"name": "telephone", "high_hz": [3400, 5000]}, "high_hz: expected a number from -inf to 4000, found 5000"),
        ({"name": "band_limit", "low_hz": [0, 3000]}, r"\(band_limit\): low_hz up to 3000 .* can leave no band"),
        ({"name": "babble"}, r"\(babble\): needs a manifest; set task.babble_manifest"),
        ("reverb", r"transform 1: expected \{name: ..., p: ...\}, found 'reverb'"),
    ],
)
def test_a_mistake_in_an_entry_is_named(tmp_path, entry, message):
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path, [entry])
    assert "mine.yaml" in str(caught.value) or "gone.tsv" in str(caught.value)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_lists_its_keys_where_one_is_unknown(tmp_path, name):
    with pytest.raises(InputError, match=rf"\({name}\): unknown key 'colour'; known: p, "):
        load(tmp_path, [{"name": name, "colour": 1}])


@pytest.mark.parametrize("preset", [path.stem for path in presets_folder().glob("*.yaml")])
def test_every_preset_keeps_time_replays_and_needs_no_batch(preset, noise_manifest):
    built = load_pipeline(preset, RATE, noise_manifest=noise_manifest)
    for part in built.transforms:
        if part.transform.name == "reverb":
            part.transform.rooms = 2
    waves = white(8)
    drawn = [built.load(built.draw(own, SAMPLES), SAMPLES) for own in generators(*range(8))]
    out = built.apply(waves, drawn)
    spectrum = torch.fft.rfft(out, n=2 * SAMPLES) * torch.fft.rfft(waves, n=2 * SAMPLES).conj()
    lags = torch.fft.irfft(spectrum, n=2 * SAMPLES).abs().argmax(dim=1)
    assert (torch.minimum(lags, 2 * SAMPLES - lags) <= 2).all()
    assert torch.equal(built(waves, generators(*range(8))), out)
    alone = torch.cat([built.apply(waves[n : n + 1], drawn[n : n + 1]) for n in range(8)])
    torch.testing.assert_close(alone, out, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "content", ["", "transforms:", "- {name: reverb}", "transforms: []\nextra: 1", "transforms: {a: 1}"]
)
def test_a_file_without_a_list_of_transforms_is_an_error(tmp_path, content):
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(InputError, match="mine.yaml: expected one key, transforms"):
        load_pipeline(tmp_path / "mine.yaml", RATE)


def test_a_file_that_is_no_yaml_is_an_error(tmp_path):
    (tmp_path / "mine.yaml").write_text("transforms: [\n")
    with pytest.raises(InputError, match="mine.yaml: not valid YAML"):
        load_pipeline(tmp_path / "mine.yaml", RATE)


def test_an_unknown_preset_lists_the_known_ones():
    known = "noise_reverb, none, paper, paper_freeverb, rooms, telephone"
    with pytest.raises(InputError, match=f"papper: neither .* presets: {known}"):
        load_pipeline("papper", RATE)


def test_an_unknown_override_is_a_defect_of_the_caller():
    with pytest.raises(AssertionError, match="noise_manifst"):
        load_pipeline("none", RATE, noise_manifst="x.tsv")


def test_presets_are_found_where_a_wheel_puts_them(tmp_path, monkeypatch):
    installed = tmp_path / "data" / "share" / "ccc_w2v" / "recipes" / "augment"
    installed.mkdir(parents=True)
    monkeypatch.setattr(shared_files, "__file__", str(tmp_path / "site-packages" / "ccc_w2v" / "shared_files.py"))
    monkeypatch.setattr(shared_files.sysconfig, "get_path", lambda *_: str(tmp_path / "data"))
    assert presets_folder() == installed
    installed.rmdir()
    with pytest.raises(InputError, match="no folder recipes/augment"):
        presets_folder()


def test_a_transform_that_moves_frames_is_refused():
    class Faster(Transform):
        name = "faster"
        keeps_time = False

        def draw(self, generator: torch.Generator, samples: int) -> Parameters:
            return {}

        def change(self, waves_RS: torch.Tensor, parameters: list[Parameters]) -> torch.Tensor:
            return waves_RS[:, ::2]

    with pytest.raises(InputError, match="faster moves frames"):
        Pipeline([RandomTransform(1.0, GaussianNoise(RATE)), RandomTransform(1.0, Faster(RATE))])


def test_a_pipeline_says_what_it_does(noise_manifest):
    assert str(load_pipeline("none", RATE)) == "no augmentation (100.0% of utterances untouched)"
    assert "reverb p 0.7" in str(load_pipeline("paper", RATE, noise_manifest=noise_manifest))
