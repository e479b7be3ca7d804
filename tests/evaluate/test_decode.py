"""Decoding against unmodified fairseq, alone and in batches, and what load_ctc refuses."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import editdistance
import pytest
import torch
from fairseq.criterions.ctc import CtcCriterion, CtcCriterionConfig
from fairseq.data.data_utils import post_process
from fairseq.data.dictionary import Dictionary
from hypothesis import given
from hypothesis import strategies as st

from ccc_w2v.compat import load_checkpoint
from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.errors import InputError
from ccc_w2v.evaluate.decode import CtcModel, decoding_identity, emit, equal_length_batches, greedy, load_ctc, to_words
from ccc_w2v.evaluate.decode import transcribe as transcribe_manifest
from tests.evaluate.tiny_ctc import SAMPLES, WORDS, build_ctc, save, trainer_state

LABELS = ("<s>", "<pad>", "</s>", "<unk>", "|", "A", "B", "\u2581C", "D")


def raw_state(path: Path) -> dict[str, Any]:
    load_checkpoint(path)  # allows fairseq's Dictionary
    return torch.load(path, weights_only=True)


def read_waves(manifest: Path) -> list[torch.Tensor]:
    listed = read_manifest(manifest)
    return [read_audio(listed.audio_path(entry), 16000) for entry in listed.entries]


def texts_of(model: CtcModel, emissions: list[torch.Tensor]) -> list[str]:
    return [" ".join(to_words(greedy(each, model.blank), model.labels)) for each in emissions]


def test_loads_what_fairseq_saved(checkpoint: Path, test_set: Path) -> None:
    model = load_ctc(checkpoint)
    assert model.labels == tuple(Dictionary.load(str(test_set.parent / "dict.ltr.txt")).symbols)
    assert (model.blank, model.sample_rate, model.normalize, model.post_process) == (0, 16000, False, "letter")
    assert not model.network.training
    saved = raw_state(checkpoint)["model"]
    assert all(torch.equal(value, saved[name]) for name, value in model.network.state_dict().items())


def test_shortest_audio_is_one_frame_of_the_encoder(checkpoint: Path) -> None:
    model = load_ctc(checkpoint)
    assert model.min_samples == 400  # wav2vec 2.0's receptive field: 25 ms at 16 kHz
    assert len(emit(model, [torch.randn(400, generator=torch.Generator().manual_seed(0))])[0]) == 1
    with pytest.raises(RuntimeError):
        emit(model, [torch.zeros(399)])


@pytest.mark.parametrize(("normalize", "extractor_mode"), [(False, "default"), (True, "layer_norm")])
def test_agrees_with_fairseqs_validation(test_set: Path, tmp_path: Path, normalize: bool, extractor_mode: str) -> None:
    task, network, cfg = build_ctc(test_set.parent, normalize=normalize, extractor_mode=extractor_mode)
    model = load_ctc(save(trainer_state(task, network, cfg), tmp_path / "ctc.pt"))
    texts = texts_of(model, emit(model, read_waves(test_set)))
    assert all(texts)

    task.load_dataset("test")
    criterion = CtcCriterion(CtcCriterionConfig(sentence_avg=True), task).eval()
    for index, (text, reference) in enumerate(zip(texts, WORDS, strict=True)):
        _, _, logged = criterion(network, task.dataset("test").collater([task.dataset("test")[index]]))
        assert logged["w_total"] == len(reference.split())
        assert logged["w_errors"] == editdistance.eval(text.split(), reference.split())


def test_a_mixed_batch_is_each_utterance_alone(checkpoint: Path, test_set: Path) -> None:
    model, waves = load_ctc(checkpoint), read_waves(test_set)
    together = emit(model, waves)
    alone = [emit(model, [wave])[0] for wave in waves]
    for left, right in zip(together, alone, strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=0)
    assert texts_of(model, together) == texts_of(model, alone)
    assert len(set(texts_of(model, alone))) > 1
    torch.testing.assert_close(together[0].exp().sum(-1), torch.ones(len(together[0])))


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 100))
def test_batches_hold_each_utterance_once_and_one_length(lengths: list[int], most: int) -> None:
    batches = equal_length_batches(lengths, most)
    assert sorted(itertools.chain(*batches)) == list(range(len(lengths)))
    for batch in batches:
        assert len({lengths[position] for position in batch}) == 1
        assert len(batch) == 1 or sum(lengths[position] for position in batch) <= most


@given(st.lists(st.integers(0, 3), min_size=1))
def test_greedy_collapses_then_drops_blanks(best: list[int]) -> None:
    log_probs_TV = torch.nn.functional.one_hot(torch.tensor(best), 4).float().log_softmax(-1)
    assert greedy(log_probs_TV, 0) == [symbol for symbol, _ in itertools.groupby(best) if symbol != 0]


@pytest.mark.parametrize("kind", ["letter", "sentencepiece"])
@given(ids=st.lists(st.integers(0, len(LABELS) - 1)))
def test_words_are_fairseqs(kind: str, ids: list[int]) -> None:
    dictionary = Dictionary()
    for label in LABELS[4:]:
        dictionary.add_symbol(label)
    assert to_words(ids, LABELS, kind) == post_process(dictionary.string(ids), kind).split()


def test_nan_names_the_utterance(checkpoint: Path) -> None:
    model = load_ctc(checkpoint)
    with torch.no_grad():
        model.network.w2v_encoder.proj.bias[3] = float("nan")
    with pytest.raises(InputError, match="1272-128104-0001: the network gives NaN"):
        emit(model, [torch.ones(4000)], ["1272-128104-0001"])


def test_dictionary_as_plain_data_comes_first(checkpoint: Path, tmp_path: Path) -> None:
    state = raw_state(checkpoint)
    symbols = list(state.pop("task_state")["target_dictionary"].symbols)
    symbols[-1] = "\u00c5"
    state["ccc_dictionary"] = {"symbols": symbols, "count": [1] * len(symbols)}
    assert load_ctc(save(state, tmp_path / "plain.pt")).labels == tuple(symbols)


def test_dictionary_from_a_folder(checkpoint: Path, test_set: Path, tmp_path: Path) -> None:
    state = raw_state(checkpoint)
    labels = tuple(state.pop("task_state")["target_dictionary"].symbols)
    bare = save(state, tmp_path / "bare.pt")
    assert load_ctc(bare, test_set.parent).labels == labels
    with pytest.raises(InputError, match=r"holds no dictionary, and dict\.ltr\.txt is not in None"):
        load_ctc(bare)
    (tmp_path / "dict.ltr.txt").write_text("| 1\nA 1\n")
    with pytest.raises(InputError, match=f"output layer has {len(labels)} symbols, the dictionary 6"):
        load_ctc(bare, tmp_path)
    (tmp_path / "dict.ltr.txt").write_text("A B C\n")
    with pytest.raises(InputError, match=r"dict\.ltr\.txt: expected lines of symbol, space, count"):
        load_ctc(bare, tmp_path)


def test_base_model_from_its_path(checkpoint: Path, test_set: Path, tmp_path: Path) -> None:
    state = raw_state(checkpoint)
    base_cfg = state["cfg"]["model"].pop("w2v_args")
    state["cfg"]["model"]["w2v_path"] = str(tmp_path / "base.pt")
    needs_base = save(state, tmp_path / "needs_base.pt")
    with pytest.raises(InputError, match=r"lacks its base model's configuration .*base\.pt is no file"):
        load_ctc(needs_base)
    save({**state, "cfg": base_cfg, "model": {}}, tmp_path / "base.pt")
    waves = read_waves(test_set)[:1]
    assert torch.equal(emit(load_ctc(needs_base), waves)[0], emit(load_ctc(checkpoint), waves)[0])


def test_a_base_model_of_ours_decodes_as_fairseqs(checkpoint: Path, test_set: Path, tmp_path: Path) -> None:
    state = raw_state(checkpoint)
    base = state["cfg"]["model"]["w2v_args"]
    base["model"]["_name"], base["task"] = "ccc_wav2vec2", {"_name": "ccc_pretraining", "normalize": False}
    base["task"].update(data="gone", tpu=False, save_dir="gone", max_tokens=1, update_freq=[1], max_update=1)
    base["task"].update(world_size=1, noise_manifest="gone.tsv")
    waves = read_waves(test_set)[:1]
    ours = load_ctc(save(state, tmp_path / "ours.pt"))
    assert torch.equal(emit(ours, waves)[0], emit(load_ctc(checkpoint), waves)[0])


def test_refuses_other_models_and_settings(checkpoint: Path, tmp_path: Path) -> None:
    changes = {
        ("model", "_name"): ("wav2vec_seq2seq", "holds model 'wav2vec_seq2seq'"),
        ("model", "w2v_args", "model", "_name"): ("hubert", "its base is model 'hubert'"),
        ("criterion", "post_process"): ("wordpiece", "post_process is 'wordpiece', expected letter or sentencepiece"),
        ("model", "w2v_args", "model", "encoder_layers"): (3, "the tensors do not fit the configuration"),
    }
    for keys, (value, message) in changes.items():
        state = raw_state(checkpoint)
        section = state["cfg"]
        for key in keys[:-1]:
            section = section[key]
        section[keys[-1]] = value
        with pytest.raises(InputError, match=message):
            load_ctc(save(state, tmp_path / "changed.pt"))


def test_code_in_the_configuration_is_not_run(checkpoint: Path, tmp_path: Path) -> None:
    state = raw_state(checkpoint)
    witness = tmp_path / "ran"
    code = f"__import__('pathlib').Path({str(witness)!r}).touch() or [(32, 10, 5)]"
    state["cfg"]["model"]["w2v_args"]["model"]["conv_feature_layers"] = code
    with pytest.raises(InputError, match="conv_feature_layers"):
        load_ctc(save(state, tmp_path / "evil.pt"))
    assert not witness.exists()


class Payload:
    """Unpickled without restraint, this makes a folder."""

    def __init__(self, witness: Path):
        self.witness = witness

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.witness),)


@pytest.mark.parametrize("container", ["zip", "pickle"])
def test_code_in_the_pickle_is_not_run(tmp_path: Path, container: str) -> None:
    content = pickle.dumps({"model": {}, "cfg": Payload(tmp_path / "ran")}, protocol=2)
    if container == "zip":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", content)
            archive.writestr("archive/version", "3\n")
            archive.writestr("archive/byteorder", "little")
        content = buffer.getvalue()
    evil = tmp_path / "evil.pt"
    evil.write_bytes(content)
    with pytest.raises(InputError, match=r"evil\.pt: not a readable fairseq checkpoint"):
        load_ctc(evil)
    assert not (tmp_path / "ran").exists()
    with contextlib.suppress(RuntimeError):  # unrestrained, the payload is live
        torch.load(evil, weights_only=False)
    assert (tmp_path / "ran").exists()


def test_transcribes_in_the_manifests_order(checkpoint: Path, test_set: Path, tmp_path: Path) -> None:
    model, manifest = load_ctc(checkpoint), read_manifest(test_set)
    result = transcribe_manifest(model, manifest, tmp_path / "j", decoding_identity(model, checkpoint, manifest))
    expected = texts_of(model, emit(model, read_waves(test_set)))
    assert list(result.texts.items()) == [(f"test{index}", text) for index, text in enumerate(expected)]
    assert result.audio_seconds == sum(SAMPLES) / 16000
    assert result.resumed == 0
