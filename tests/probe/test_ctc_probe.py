"""The CTC probe: what it learns, what it depends on, its files and its mistakes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.errors import InputError
from ccc_w2v.probe.cached_states import States, cached_states
from ccc_w2v.probe.ctc_head import CtcHead, ProbeSettings
from ccc_w2v.probe.ctc_probe import (
    Labelled,
    Look,
    _stale,
    describe,
    measure_probe,
    train_probe,
    transcripts,
)
from ccc_w2v.probe.features import hidden_states, load_encoder, read_wave
from tests.export.conftest import pretrained_state
from tests.fake_corpora import write_corpus, write_labels
from tests.run_tool import one_line_error, run_tool

LETTERS = ["|", "A", "B", "C"]
FRAMES_PER_LETTER = 4
WIDTH, LAYERS, TELLING = 8, 3, 1


def spoken(words, seed):
    """Return states (L, T, D) of an utterance: layer TELLING alone says which letter is being spoken."""
    generator = torch.Generator().manual_seed(seed)
    spelled = [LETTERS.index(letter) for letter in words.replace(" ", "|") + "|"]
    frames = torch.tensor([index for index in spelled for _ in range(FRAMES_PER_LETTER)])
    states_LTD = torch.randn(LAYERS, len(frames), WIDTH, generator=generator)
    letter_TD = torch.nn.functional.one_hot(frames, WIDTH).float()
    letter_TD[::FRAMES_PER_LETTER] = 0  # a gap, as between sounds
    states_LTD[TELLING] = 3 * letter_TD + 0.1 * states_LTD[TELLING]
    return states_LTD.half()


def corpus(utterances, seed):
    generator = torch.Generator().manual_seed(seed)
    words = []
    for _ in range(utterances):
        lengths = torch.randint(1, 4, (3,), generator=generator).tolist()
        letters = torch.randint(1, 4, (sum(lengths),), generator=generator).tolist()
        spelled = iter(letters)
        words.append(" ".join("".join(LETTERS[next(spelled)] for _ in range(length)) for length in lengths))
    names = tuple(f"{speaker}-1-{number:04}" for number, speaker in enumerate([11, 12, 13, 14] * utterances))[
        :utterances
    ]
    values = tuple(spoken(text, seed * 1000 + number) for number, text in enumerate(words))
    return Labelled(States(names, values), tuple(words))


TRAIN, DEV, TEST = corpus(24, 1), corpus(8, 2), corpus(8, 3)
SETTINGS = ProbeSettings(
    head="linear", updates=150, dev_interval=10, warmup_updates=10, learning_rate=0.02, lstm_width=8
)


@pytest.fixture(scope="module", params=["linear", "lstm"])
def probe(request):
    return train_probe(TRAIN, DEV, LETTERS, replace(SETTINGS, head=request.param))


def test_a_probe_spells_what_a_layer_holds_and_finds_the_layer(probe):
    measured = measure_probe(probe, TEST)
    assert measured.cer.rate < 0.1
    low, high = measured.cer.interval or (1, 0)
    assert low <= measured.cer.rate <= high
    assert measured.provenance.resampled == "speakers"
    assert measured.provenance.groups == 4
    weights = describe(probe)["layer_weights"]
    assert max(range(LAYERS), key=weights.__getitem__) == TELLING
    assert sum(weights) == pytest.approx(1, abs=1e-3)


def test_features_without_the_words_give_no_words():
    """The same training on noise: the error rate of the test above is not there by construction."""
    noise = replace(
        TRAIN, states=replace(TRAIN.states, values=tuple(torch.randn(v.shape).half() for v in TRAIN.states.values))
    )
    assert measure_probe(train_probe(noise, DEV, LETTERS, SETTINGS), TEST).cer.rate > 0.5


def test_a_probe_is_the_same_again_and_depends_on_its_seed(probe):
    again = train_probe(TRAIN, DEV, LETTERS, probe.settings)
    other = train_probe(TRAIN, DEV, LETTERS, replace(probe.settings, seed=2))
    assert again.looks == probe.looks
    assert transcripts(again, TEST.states) == transcripts(probe, TEST.states)
    for name, tensor in probe.head.state_dict().items():
        assert torch.equal(tensor, again.head.state_dict()[name])
    assert other.looks != probe.looks


def test_no_global_generator_is_used():
    before = torch.get_rng_state()
    train_probe(TRAIN, DEV, LETTERS, replace(SETTINGS, updates=3, head="lstm"))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_head_is_that_of_the_lowest_error_rate_on_dev(probe):
    looks = {look: min((update + 1) * 10, 150) for update, look in reversed(list(enumerate(probe.looks)))}
    best = min(probe.looks, key=lambda look: look.cer)
    assert probe.best_update == looks[best]
    assert measure_probe(probe, DEV).cer.rate == best.cer


def test_an_utterance_does_not_depend_on_its_batch(probe):
    alone = {}
    for name, value in zip(TEST.states.utterances, TEST.states.values, strict=True):
        alone |= transcripts(probe, States((name,), (value,)))
    assert alone == transcripts(probe, TEST.states)


@pytest.mark.parametrize(
    ("losses", "rates", "stale"),
    [
        ([5, 4, 3, 2], [1, 1, 1, 1], False),
        ([5, 6, 6, 6], [0.9, 0.8, 0.9, 0.7], False),
        ([5, 3, 4, 3], [0.9, 0.8, 0.9, 0.8], True),
        ([5, 6], [0.9, 0.9], False),
    ],
)
def test_training_stops_when_neither_loss_nor_error_rate_falls(losses, rates, stale):
    assert _stale([Look(*pair) for pair in zip(losses, rates, strict=True)], 2) is stale


def test_both_directions_are_those_of_torchs_bidirectional_lstm_over_packed_sequences():
    head = CtcHead(LAYERS, WIDTH, len(LETTERS) + 1, ProbeSettings(lstm_width=5), generator_for(1, "head"))
    reference = torch.nn.LSTM(WIDTH, 5, batch_first=True, bidirectional=True)
    suffixes = ["", "_reverse"]
    state = zip(suffixes, head.directions, strict=True)
    reference.load_state_dict({name + end: value for end, lstm in state for name, value in lstm.state_dict().items()})
    frames_B = torch.tensor([9, 4, 1, 7])
    states_BTD = torch.randn(4, 9, WIDTH, generator=generator_for(1, "states"))
    packed = pack_padded_sequence(states_BTD, frames_B, batch_first=True, enforce_sorted=False)
    expected_BTD, _ = pad_packed_sequence(reference(packed)[0], batch_first=True)
    inside_BT1 = (torch.arange(9) < frames_B.unsqueeze(1)).unsqueeze(-1)
    torch.testing.assert_close(head._both_directions(states_BTD, frames_B) * inside_BT1, expected_BTD)


def test_an_untrained_head_says_nothing():
    head = CtcHead(LAYERS, WIDTH, 5, ProbeSettings(), torch.Generator().manual_seed(0))
    log_probs = head(TEST.states.values[0][None].float(), torch.tensor([TEST.states.values[0].shape[1]]), None)
    assert (log_probs.argmax(-1) == 0).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"head": "cnn"}, "unknown head 'cnn'; available: linear, lstm"),
        ({"updates": 0}, "updates 0: expected a whole number of at least 1"),
        ({"dropout": 1.0}, r"expected a dropout in \[0, 1\)"),
    ],
)
def test_bad_settings(changed, message):
    with pytest.raises(InputError, match=message):
        train_probe(TRAIN, DEV, LETTERS, replace(SETTINGS, **changed))


def test_an_unknown_letter_is_named():
    with pytest.raises(InputError, match="'C', which is not in the dictionary"):
        train_probe(TRAIN, DEV, LETTERS[:3], SETTINGS)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A checkpoint, and manifests of three lists with transcripts."""
    folder = tmp_path_factory.mktemp("probe")
    torch.save(pretrained_state("large"), folder / "model.pt")
    for number, name in enumerate(("train", "dev", "test")):
        manifest = write_corpus(folder, [9600, 8000, 12345, 8000], name=name, seed=10 * number)
        write_labels(manifest, ["A BAD CAB", "DAD", "BEAD A", "FACE"])
    (folder / "dict.ltr.txt").write_text("".join(f"{letter} 1\n" for letter in "|ABCDEF"))
    return folder


def test_cached_states_are_the_networks_at_one_scale(files, tmp_path, monkeypatch):
    encoder, manifest = load_encoder(files / "model.pt"), read_manifest(files / "train.tsv")
    states = cached_states(encoder, files / "model.pt", manifest, tmp_path)
    wave = read_wave(encoder, manifest, manifest.entries[2])
    expected_TLD = hidden_states(encoder, wave[None])[0][0]
    expected = torch.nn.functional.layer_norm(expected_TLD.transpose(0, 1), expected_TLD.shape[-1:])
    assert states.utterances[2] == "train2"
    torch.testing.assert_close(states.values[2].float(), expected, atol=5e-3, rtol=5e-3)
    # The second call computes nothing.
    monkeypatch.setattr(encoder.network, "forward", None)
    again = cached_states(encoder, files / "model.pt", manifest, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(states.values, again.values, strict=True))


def test_a_network_that_has_diverged_is_named(files, tmp_path):
    encoder, manifest = load_encoder(files / "model.pt"), read_manifest(files / "train.tsv")
    encoder.network.encoder.layers[0].fc2.bias.data[0] = float("nan")
    with pytest.raises(InputError, match="train0: the network's states are not finite"):
        cached_states(encoder, files / "model.pt", manifest, tmp_path)


def test_the_tool(files, tmp_path, capsys):
    options = {"checkpoint": files / "model.pt", "train": files / "train.tsv", "dev": files / "dev.tsv"}
    assert run_tool("probe", **options, test=files / "test.tsv", out=tmp_path, updates=60, seed=3) == 0
    shown = capsys.readouterr().out
    report = json.loads((tmp_path / "probe.json").read_text())
    assert f"{report['tests']['test']['cer']['rate']:.2%}" in shown
    assert "layer weights" in shown
    assert len(report["layer_weights"]) == 3
    assert report["settings"]["seed"] == 3
    assert report["tests"]["test"]["utterances"] == 4
    references = (tmp_path / "test/ref.trn").read_text().splitlines()
    assert references[1] == "DAD (test1)"
    assert len((tmp_path / "test/hyp.trn").read_text().splitlines()) == 4
    # The same features, the same head: the same numbers, elsewhere and where it stopped before its end.
    (tmp_path / "probe.json").unlink()
    for out in (tmp_path, tmp_path / "elsewhere"):
        assert run_tool("probe", **options, test=files / "test.tsv", out=out, updates=60, seed=3) == 0
        again = json.loads((out / "probe.json").read_text())
        assert {key: again[key] for key in again if key != "seconds"} == {
            k: report[k] for k in report if k != "seconds"
        }


def test_another_probe_is_not_replaced_unasked(files, tmp_path, capsys):
    options = {"checkpoint": files / "model.pt", "train": files / "train.tsv", "dev": files / "dev.tsv"}
    assert run_tool("probe", **options, out=tmp_path, updates=10) == 0
    before = (tmp_path / "probe.json").read_bytes()
    assert run_tool("probe", **options, out=tmp_path, updates=10) == 0
    assert (tmp_path / "probe.json").read_bytes() == before
    capsys.readouterr()
    assert run_tool("probe", **options, out=tmp_path, updates=20) == 2
    assert "made with other settings (updates)" in one_line_error(capsys)
    assert (tmp_path / "probe.json").read_bytes() == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"checkpoint": "{files}/none.pt"}, "none.pt"),
        ({"dev": "{tmp}/bare.tsv"}, "bare.tsv: no transcripts"),
        ({"train": "{tmp}/train.tsv"}, "dict.ltr.txt: no such dictionary"),
        ({"device": "cuda"}, "torch finds no GPU"),
        ({"updates": 0}, "updates 0: expected"),
    ],
)
def test_mistakes_are_one_line(files, tmp_path, capsys, monkeypatch, changed, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "bare.tsv").write_text((files / "dev.tsv").read_text())
    for kind in ("tsv", "wrd"):
        (tmp_path / f"train.{kind}").write_text((files / f"train.{kind}").read_text())
    options = {"checkpoint": files / "model.pt", "train": files / "train.tsv", "dev": files / "dev.tsv"}
    filled = {key: str(value).format(files=files, tmp=tmp_path) for key, value in changed.items()}
    assert run_tool("probe", **{**options, **filled}, out=tmp_path / "out") == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_two_tests_of_one_name_are_refused(files, tmp_path, capsys):
    from tests.run_tool import run_with

    both = [files / "test.tsv", tmp_path / "test.tsv"]
    arguments = ["--checkpoint", "x", "--train", "x", "--dev", "x", "--out", tmp_path, "--test", *both]
    assert run_with("probe", *arguments) == 2
    assert "two manifests have the same name" in one_line_error(capsys)
