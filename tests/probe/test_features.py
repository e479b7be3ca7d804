from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from ccc_w2v.checkpoint.parity import fairseq_outputs
from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.errors import InputError
from ccc_w2v.export.huggingface import export_huggingface
from ccc_w2v.probe import features
from ccc_w2v.probe.features import Wanted, extract, hidden_states, load_encoder
from tests.export.conftest import STYLES, finetuned_state, pretrained_state
from tests.export.test_files import file_size_limit
from tests.fake_corpora import RATE, write_corpus

TOOL = Path(__file__).parents[2] / "tools" / "extract_features.py"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return read_manifest(write_corpus(tmp_path_factory.mktemp("corpus"), [9600, 8000, 12345, 8000, 9600]))


@pytest.fixture(scope="module", params=STYLES)
def styled(request, tmp_path_factory):
    """A pre-trained checkpoint of each style, its encoder and its transformers folder."""
    folder = tmp_path_factory.mktemp("styled")
    torch.save(pretrained_state(request.param), folder / "checkpoint.pt")
    audio = write_corpus(folder / "corpus", [16000]).parent / "audio" / "train0.wav"
    export_huggingface(folder / "checkpoint.pt", folder / "exported", [audio])
    return load_encoder(folder / "checkpoint.pt"), folder


def rows_of(out: Path, load) -> dict[str, dict[str, np.ndarray]]:
    """Read a folder of shards by its index alone, as a user would."""
    header, *lines = [line.split("\t") for line in (out / "index.tsv").read_text().splitlines()]
    assert tuple(header) == features.INDEX_COLUMNS
    arrays_of = {}
    for utterance, shard, first_row, rows, first_frame, frames in lines:
        arrays = load(out, shard)
        arrays_of[utterance] = {"features": arrays["features"][int(first_row) :][: int(rows)]}
        if "codes" in arrays:
            arrays_of[utterance]["codes"] = arrays["codes"][int(first_frame) :][: int(frames)]
    return arrays_of


def load_h5(out, shard):
    import h5py

    with h5py.File(out / f"{shard}.h5") as file:
        return {key: file[key][()] for key in file}


LOADERS = {
    "safetensors": lambda out, shard: load_file(out / f"{shard}.safetensors"),
    "npy": lambda out, shard: {path.name.split(".")[1]: np.load(path) for path in out.glob(f"{shard}.*.npy")},
    "hdf5": load_h5,
}


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("mean", [False, True])
def test_every_utterance_is_found_by_the_index(kind, mean, styled, corpus, tmp_path):
    if kind == "hdf5":
        pytest.importorskip("h5py")
    encoder, _ = styled
    wanted = Wanted(layers=(2, 1), mean=mean, codes=True, format=kind, shard_utterances=2)
    assert extract(encoder, corpus, tmp_path, wanted, "x") == 0
    arrays_of = rows_of(tmp_path, LOADERS[kind])
    assert list(arrays_of) == [f"train{i}" for i in range(5)]
    for entry, arrays in zip(corpus.entries, arrays_of.values(), strict=True):
        wave = read_audio(corpus.audio_path(entry), RATE)
        wave = torch.nn.functional.layer_norm(wave, wave.shape) if encoder.normalize else wave
        expected = fairseq_outputs(encoder.network, wave[None])
        layers = torch.stack([expected["layer 2"][0], expected["layer 1"][0]], dim=1)
        layers = layers.mean(dim=0, keepdim=True) if mean else layers
        np.testing.assert_allclose(arrays["features"], layers, atol=1e-5)
        assert np.array_equal(arrays["codes"], expected["codes"][0])


def test_layers_are_transformers_hidden_states(styled, corpus):
    """What s3prl's two-line upstream gives over the exported folder: it takes hidden_states as they are."""
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

    encoder, folder = styled
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder / "exported", local_files_only=True)
    model = Wav2Vec2Model.from_pretrained(folder / "exported", local_files_only=True).eval()
    wave = read_audio(corpus.audio_path(corpus.entries[2]), RATE)
    inputs = extractor(
        [wave.numpy()], return_tensors="pt", padding=True, return_attention_mask=True, sampling_rate=RATE
    )
    with torch.no_grad():
        theirs = model(**inputs, output_hidden_states=True).hidden_states
    prepared = inputs["input_values"]
    ours, _ = hidden_states(encoder, prepared)
    assert len(theirs) == ours.size(2) == encoder.layers + 1
    for layer, state in enumerate(theirs):
        torch.testing.assert_close(state, ours[:, :, layer], rtol=0, atol=1e-5)


def test_stopped_extraction_goes_on_and_equals_an_undisturbed_one(styled, corpus, tmp_path, monkeypatch):
    encoder, _ = styled
    wanted = Wanted(shard_utterances=2, half=True)
    extract(encoder, corpus, tmp_path / "straight", wanted, "x")
    write, written = features._write, []

    def stopped(out, name, *others):
        if written:
            raise KeyboardInterrupt
        written.append(name)
        write(out, name, *others)

    monkeypatch.setattr(features, "_write", stopped)
    with pytest.raises(KeyboardInterrupt):
        extract(encoder, corpus, tmp_path / "stopped", wanted, "x")
    assert not (tmp_path / "stopped" / "index.tsv").exists()
    monkeypatch.setattr(features, "_write", write)
    assert extract(encoder, corpus, tmp_path / "stopped", wanted, "x") == 2
    straight, resumed = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("straight", "stopped")
    )
    assert straight == resumed
    assert load_file(tmp_path / "straight" / "shard-00000.safetensors")["features"].dtype == np.float16
    for identity, changed in (("y", wanted), ("x", Wanted(shard_utterances=2, mean=True))):
        with pytest.raises(InputError, match="made with other settings"):
            extract(encoder, corpus, tmp_path / "stopped", changed, identity)


@pytest.mark.parametrize("kind", LOADERS)
def test_full_disk_leaves_no_half_a_shard_and_the_rest_goes_on(kind, styled, corpus, tmp_path):
    encoder, _ = styled
    with file_size_limit(20_000), pytest.raises(InputError, match="shard-00000.*cannot be written"):
        extract(encoder, corpus, tmp_path, Wanted(format=kind), "x")
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]
    assert extract(encoder, corpus, tmp_path, Wanted(format=kind), "x") == 0
    assert len(rows_of(tmp_path, LOADERS[kind])) == len(corpus)


def test_finetuned_encoder_gives_layers_and_refuses_codes(corpus, tmp_path):
    torch.save(finetuned_state(), tmp_path / "fine.pt")
    encoder = load_encoder(tmp_path / "fine.pt")
    extract(encoder, corpus, tmp_path / "a", Wanted(layers=(0,)), "x")
    with pytest.raises(InputError, match="no codebook"):
        extract(encoder, corpus, tmp_path / "b", Wanted(codes=True), "x")
    with pytest.raises(InputError, match="--layers 3: the model has layers 0 .* to 2"):
        extract(encoder, corpus, tmp_path / "c", Wanted(layers=(3,)), "x")


def test_tool(corpus, tmp_path, monkeypatch, capsys):
    torch.save(pretrained_state(), tmp_path / "pre.pt")
    arguments = ["--checkpoint", str(tmp_path / "pre.pt"), "--manifest", corpus.source, "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["extract_features.py", *arguments, "--layers", "1,2", "--mean", "--codes"])
    main = runpy.run_path(str(TOOL))["main"]
    assert main() == 0
    assert "5 utterances, 0 of them" in capsys.readouterr().out
    assert main() == 0
    assert "5 utterances, 5 of them" in capsys.readouterr().out
    for bad, message in (("one", "expected all, or numbers"), ("9", "the model has layers")):
        monkeypatch.setattr(sys, "argv", ["extract_features.py", *arguments, "--layers", bad])
        assert main() == 2
        assert message in capsys.readouterr().err
