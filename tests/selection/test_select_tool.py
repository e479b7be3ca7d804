"""`ccc-w2v select`: what is written for each way, resuming, and mistakes in one line."""

from __future__ import annotations

import json

import pytest
import torch

from ccc_w2v.cli.main import main
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.data.masking import span_mask
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.losses.negatives import sample_negatives
from ccc_w2v.probe import features
from ccc_w2v.probe.features import load_encoder, read_wave
from ccc_w2v.selection import losses
from ccc_w2v.selection.clusters import cluster_number, cluster_utterances, read_embeddings
from tests.export.conftest import finetuned_state, pretrained_state
from tests.fake_corpora import RATE, write_corpus, write_labels
from tests.run_tool import one_line_error, run_with

pytest.importorskip("faiss")
LENGTHS = [6000 + 700 * n for n in range(24)]
HALF = sum(LENGTHS) / RATE / 3600 / 2


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("select")
    write_labels(write_corpus(folder, LENGTHS), [f"WORD {'A' * (n + 1)}" for n in range(len(LENGTHS))])
    torch.save(pretrained_state(), folder / "pretrained.pt")
    torch.save(finetuned_state(), folder / "finetuned.pt")
    (folder / "speakers").write_text("".join(f"train{n} {n % 3}\n" for n in range(len(LENGTHS))))
    return folder


def select(place, out, by, *options, hours=HALF):
    arguments = ["--manifest", place / "train.tsv", "--hours", hours, "--by", by, "--out", place / out]
    return run_with("select_speech", *arguments, *options)


def test_the_longest_half_with_its_labels_weights_and_report(place, capsys):
    assert select(place, "longest", "longest", "--speakers", place / "speakers") == 0
    printed = capsys.readouterr().out
    whole, chosen = read_manifest(place / "train.tsv"), read_manifest(place / "longest" / "train.tsv")
    paths = [entry.path for entry in whole.entries]
    places = [paths.index(entry.path) for entry in chosen.entries]
    assert places == sorted(places)
    assert min(entry.samples for entry in chosen.entries) > max(
        entry.samples
        for entry in whole.entries
        if entry not in chosen.entries and entry.path not in {kept.path for kept in chosen.entries}
    )
    assert sum(entry.samples for entry in chosen.entries) <= HALF * 3600 * RATE
    for kind in ("ltr", "wrd"):
        lines = (place / f"train.{kind}").read_text().splitlines()
        assert (place / "longest" / f"train.{kind}").read_text().splitlines() == [lines[n] for n in places]
    assert (place / "longest" / "dict.ltr.txt").is_file()
    weights = (place / "longest" / "train.weight").read_text().split()
    assert weights == ["1"] * len(chosen)
    numbers = json.loads((place / "longest" / "selection.json").read_text())
    assert numbers["before"]["hours"] == pytest.approx(2 * HALF)
    assert numbers["chosen"]["utterances"] == len(chosen)
    assert numbers["chosen"]["speakers"] == 3
    assert "clusters" not in numbers["chosen"]
    assert f"{numbers['chosen']['median_seconds']:.2f}" in printed
    assert (place / "longest" / "selection.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("by", ["sensitivity", "diverse", "random"])
def test_a_network_gives_clusters_before_and_after(place, by, capsys):
    options = ["--checkpoint", place / "pretrained.pt", "--clusters", 4]
    assert select(place, by, by, *options) == 0
    numbers = json.loads((place / by / "selection.json").read_text())
    assert numbers["before"]["clusters"] <= 4
    assert 1 <= numbers["chosen"]["clusters"] <= numbers["before"]["clusters"]
    assert numbers["chosen"]["cluster_perplexity"] <= numbers["chosen"]["clusters"] + 1e-9
    weights = [float(line) for line in (place / by / "train.weight").read_text().split()]
    assert len(weights) == numbers["chosen"]["utterances"]
    assert min(weights) > 0
    if by == "sensitivity":
        assert numbers["lambda"] > 0
        assert len(numbers["centre_losses"]) == numbers["before"]["clusters"]
    else:
        # Those of whole clusters, or of the whole manifest.
        assert sum(weights) == pytest.approx(len(LENGTHS), rel=0.3)
    # The same settings find their own output again, with nothing done twice.
    before = {path: path.stat().st_mtime_ns for path in (place / by).rglob("*") if path.is_file()}
    capsys.readouterr()
    assert select(place, by, by, *options) == 0
    assert "chosen before" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (place / by).rglob("*") if path.is_file()} == before
    assert select(place, by, by, *options, "--seed", 2) == 2
    assert "seed" in one_line_error(capsys)


def test_an_interrupted_call_repeats_no_loss(place, monkeypatch):
    options = ["--checkpoint", place / "pretrained.pt", "--clusters", 3]
    assert select(place, "straight", "sensitivity", *options) == 0
    measured, whole = [], losses.contrastive_loss

    def interrupted(*arguments):
        if len(measured) == 5:
            raise KeyboardInterrupt
        measured.append(arguments)
        return whole(*arguments)

    monkeypatch.setattr(losses, "KEPT_EVERY", 1)
    monkeypatch.setattr(losses, "contrastive_loss", interrupted)
    assert select(place, "stopped", "sensitivity", *options) == 130
    assert len((place / "stopped" / "losses.tsv").read_text().splitlines()) == 6
    assert not (place / "stopped" / "selection.json").exists()
    counted = []
    monkeypatch.setattr(losses, "contrastive_loss", lambda *rest: counted.append(rest) or whole(*rest))
    assert select(place, "stopped", "sensitivity", *options) == 0
    assert len(counted) == len(LENGTHS) - 5
    for name in ("train.tsv", "train.weight", "losses.tsv"):
        assert (place / "stopped" / name).read_text() == (place / "straight" / name).read_text()


def test_features_of_the_features_command_serve_too(place):
    features = ["--checkpoint", place / "pretrained.pt", "--manifest", place / "train.tsv"]
    assert run_with("extract_features", *features, "--out", place / "means", "--layers", "1", "--mean") == 0
    assert run_with("extract_features", *features, "--out", place / "frames", "--format", "npy", "--layers", "0,1") == 0
    manifest = read_manifest(place / "train.tsv")
    means = read_embeddings(place / "means", manifest, None)
    torch.testing.assert_close(read_embeddings(place / "frames", manifest, 1), means, rtol=1e-3, atol=1e-3)
    assert select(place, "by_features", "diverse", "--features", place / "means", "--clusters", 3) == 0
    assert not (place / "by_features" / "features").exists()


@pytest.mark.parametrize("by", ["sensitivity", "diverse"])
def test_features_in_shards_give_the_selection_of_one_call(place, tmp_path, monkeypatch, by):
    """The way of docs/scale.md for corpora that one machine would embed for too long."""
    network, options = ["--checkpoint", place / "pretrained.pt"], ["--clusters", 4]
    assert select(place, f"{by}_straight", by, *network, *options) == 0
    wanted = [*network, "--manifest", place / "train.tsv", "--out", tmp_path / "means", "--layers", "1", "--mean"]
    for number in (3, 1, 2):
        assert run_with("extract_features", *wanted, "--shard", f"{number}/3") == 0
    assert main(["merge", str(tmp_path / "means")]) == 0

    def embeds(*_, **__):
        raise AssertionError("select embeds what the shards have embedded")

    monkeypatch.setattr(features, "extract", embeds)
    network = network if by == "sensitivity" else []
    assert select(place, f"{by}_shards", by, "--features", tmp_path / "means", *network, *options) == 0
    straight, shards = place / f"{by}_straight", place / f"{by}_shards"
    assert (shards / "train.tsv").read_text() == (straight / "train.tsv").read_text()
    weights = [[float(line) for line in (out / "train.weight").read_text().split()] for out in (straight, shards)]
    assert weights[0] == pytest.approx(weights[1], rel=1e-4)


def test_clusters_are_those_of_separate_blobs_around_an_utterance_each():
    draw = torch.Generator().manual_seed(0)
    blobs = 10 * torch.eye(3).repeat_interleave(20, dim=0) + 0.1 * torch.randn(60, 3, generator=draw)
    clusters = cluster_utterances(blobs, 3, seed=1)
    assert [len(set(clusters.labels_N[20 * blob : 20 * blob + 20].tolist())) for blob in range(3)] == [1, 1, 1]
    assert clusters.labels_N[clusters.centre_K].tolist() == [0, 1, 2]
    assert float(clusters.distance_N.max()) < 1
    assert clusters.distance_N[clusters.centre_K].tolist() == [0, 0, 0]
    assert [cluster_number(n) for n in (10, 400, 10**6)] == [2, 10, 500]


def test_the_loss_is_that_of_fairseqs_own_forward_on_the_same_draws(place, monkeypatch):
    encoder = load_encoder(place / "pretrained.pt")
    manifest, network = read_manifest(place / "train.tsv"), encoder.network
    wave = read_wave(encoder, manifest, manifest.entries[-1])
    loss = losses.contrastive_loss(encoder, wave, seed=1)
    expected = []
    for number in range(losses.MASKS):
        frames = int(network._get_feat_extract_output_lengths(torch.tensor([len(wave)])))
        drawn = generator_for(1, "mask", number)
        mask = span_mask([frames], frames, network.mask_prob, network.mask_length, drawn, min_spans=2)
        masked = int(mask.sum())
        chosen = sample_negatives(1, masked, network.n_negatives, generator_for(1, "negatives", number))[0]

        def negatives_of(targets, *_, chosen=chosen, **__):
            return targets[0, chosen].transpose(0, 1).unsqueeze(1), None

        monkeypatch.setattr(network, "sample_negatives", negatives_of)
        with torch.no_grad():
            logits = network.get_logits(network(wave[None], mask=True, mask_indices=mask)).float()
        correct = torch.zeros(masked, dtype=torch.long)
        expected.append(float(torch.nn.functional.cross_entropy(logits, correct)))
    assert loss == pytest.approx(sum(expected) / len(expected), rel=1e-5)
    assert loss == losses.contrastive_loss(encoder, wave, seed=1)
    assert loss != losses.contrastive_loss(encoder, wave, seed=2)


@pytest.mark.parametrize(
    ("by", "options", "message"),
    [
        ("sensitivity", [], "name it with --checkpoint"),
        ("diverse", [], "name --features, or --checkpoint"),
        ("random", ["--hours", "0"], "--hours 0: expected more than 0"),
        ("random", ["--hours", "99"], "all of it is chosen"),
        ("random", ["--hours", "0.00001"], "shorter than the first utterance"),
        ("diverse", ["--clusters", "1", "--features", "x"], "--clusters 1"),
        ("diverse", ["--features", "nowhere"], "no features of ccc-w2v features"),
        ("sensitivity", ["--checkpoint", "finetuned.pt"], "needs a pre-trained checkpoint"),
        ("sensitivity", ["--checkpoint", "pretrained.pt", "--lambda", "-1"], "--lambda -1"),
        ("sensitivity", ["--checkpoint", "pretrained.pt", "--layer", "9"], "--layer 9: the model has layers 0"),
        ("sensitivity", ["--checkpoint", "pretrained.pt", "--clusters", "40"], "24 utterances"),
        ("sensitivity", ["--checkpoint", "pretrained.pt", "--sample-rate", "8000"], "the network expects 16000 Hz"),
        ("random", ["--speakers", "nobody"], "nobody: no such speaker map"),
    ],
)
def test_mistakes_are_one_line(place, tmp_path, capsys, monkeypatch, by, options, message):
    monkeypatch.chdir(place)
    arguments = ["--manifest", "train.tsv", "--hours", HALF, "--by", by, "--out", tmp_path / "out", *options]
    assert run_with("select_speech", *arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    # A corrected call finds nothing in its way.
    assert not (tmp_path / "out").exists()
