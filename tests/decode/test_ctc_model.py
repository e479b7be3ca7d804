"""What load_ctc loads, averages, and refuses."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq.data.dictionary import Dictionary

from ccc_w2v.decode.ctc_model import average_tensors, checkpoint_files, load_ctc
from ccc_w2v.decode.network import emit
from ccc_w2v.errors import InputError
from ccc_w2v.export.huggingface import export_huggingface
from tests.tiny_ctc import raw_state, read_waves, save


def test_loads_what_fairseq_saved(checkpoint: Path, test_set: Path) -> None:
    model = load_ctc(checkpoint)
    assert model.labels == tuple(Dictionary.load(str(test_set.parent / "dict.ltr.txt")).symbols)
    assert (model.blank, model.sample_rate, model.normalize, model.post_process) == (0, 16000, False, "letter")
    assert not model.network.training
    saved = raw_state(checkpoint)["model"]
    assert all(torch.equal(value, saved[name]) for name, value in model.network.state_dict().items())


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


def run_folder(state: dict[str, Any], folder: Path) -> Path:
    """Write a run's checkpoints: weights 1, 2, 3 ... times the state's; the epochs' are far off."""
    folder.mkdir()
    names = ["checkpoint_1_200.pt", "checkpoint_1_1000.pt", "checkpoint_2_1500.pt"]
    for factor, name in enumerate(names, start=1):
        save({**state, "model": {key: factor * value for key, value in state["model"].items()}}, folder / name)
    for name in ("checkpoint1.pt", "checkpoint_last.pt", "checkpoint_best.pt"):
        save({**state, "model": {key: 100 * value for key, value in state["model"].items()}}, folder / name)
    return folder


def test_the_last_checkpoints_are_averaged(checkpoint: Path, tmp_path: Path) -> None:
    state = raw_state(checkpoint)
    folder = run_folder(state, tmp_path / "run")
    assert [path.name for path in checkpoint_files(folder, 2)] == ["checkpoint_1_1000.pt", "checkpoint_2_1500.pt"]
    assert checkpoint_files(folder / "checkpoint_last.pt", 2) == checkpoint_files(folder, 2)
    for source in (folder, folder / "checkpoint_last.pt"):
        averaged = load_ctc(source, average_last=2).network.state_dict()
        for name, tensor in averaged.items():
            torch.testing.assert_close(tensor, 2.5 * state["model"][name], rtol=1e-6, atol=0)
    with pytest.raises(InputError, match="run: holds 3 checkpoints of epochs or updates, --average-last needs 4"):
        load_ctc(folder, average_last=4)
    for path in folder.glob("checkpoint_*_*.pt"):
        path.unlink()
    assert [path.name for path in checkpoint_files(folder, 1)] == ["checkpoint1.pt"]


def test_other_tensors_are_not_averaged(checkpoint: Path, tmp_path: Path) -> None:
    state = raw_state(checkpoint)
    files = [save(state, tmp_path / "checkpoint1.pt")]
    state["model"] = dict(list(state["model"].items())[:-1])
    files.append(save(state, tmp_path / "checkpoint2.pt"))
    with pytest.raises(InputError, match=r"checkpoint2\.pt: other tensors than in .*checkpoint1\.pt"):
        average_tensors(files)


def test_folders_that_hold_nothing_to_load(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a folder without config\.json; name a checkpoint in it"):
        load_ctc(tmp_path)
    with pytest.raises(InputError, match="gone: no such folder of checkpoints"):
        load_ctc(tmp_path / "gone" / "checkpoint_last.pt", average_last=2)


def test_a_transformers_folder_decodes_as_its_checkpoint(checkpoint: Path, test_set: Path, tmp_path: Path) -> None:
    recordings = sorted(test_set.parent.rglob("*.wav"))[:2]
    export_huggingface(checkpoint, tmp_path / "hf", recordings)
    ours, theirs = load_ctc(checkpoint), load_ctc(tmp_path / "hf", sample_audio=recordings)
    assert (theirs.labels, theirs.blank, theirs.pads) == (ours.labels, ours.blank, ours.pads)
    waves = read_waves(test_set)
    for left, right in zip(emit(ours, waves), emit(theirs, waves), strict=True):
        assert torch.equal(left, right)
    assert {path.name for path in checkpoint_files(tmp_path / "hf")} >= {"config.json", "model.safetensors"}
