"""Which weights an export takes of a checkpoint with an average of its model: the model's, or the teacher's."""

from __future__ import annotations

import pytest
import torch

from ccc_w2v.checkpoint.plain import export_plain
from ccc_w2v.checkpoint.read import load_checkpoint
from ccc_w2v.errors import InputError
from ccc_w2v.export.huggingface import export_huggingface
from tests.export.conftest import pretrained_state
from tests.run_tool import run_with


def taught_state(**extra):
    state = pretrained_state()
    draw = torch.Generator().manual_seed(9)
    average = {
        name: tensor + 0.01 * torch.randn(tensor.shape, generator=draw) for name, tensor in state["model"].items()
    }
    state["extra_state"] |= {"ema": average, **extra}
    return state


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_model_is_exported_by_default_and_the_teacher_on_demand(save, tmp_path):
    state = taught_state()
    checkpoint = save(state)
    export_plain(checkpoint, tmp_path / "model.pt")
    export_plain(checkpoint, tmp_path / "teacher.pt", weights="teacher")
    model, teacher = (load_checkpoint(tmp_path / f"{name}.pt") for name in ("model", "teacher"))
    assert same(model["model"], state["model"])
    assert same(teacher["model"], state["extra_state"]["ema"])
    assert "weights" not in model["ccc_export"]
    assert "teacher" in teacher["ccc_export"]["weights"]
    # Exported once more it still says what it is, and has no teacher of its own.
    export_plain(tmp_path / "teacher.pt", tmp_path / "again.pt")
    assert load_checkpoint(tmp_path / "again.pt")["ccc_export"] == teacher["ccc_export"]
    with pytest.raises(InputError, match="holds no average of the model"):
        export_plain(tmp_path / "teacher.pt", tmp_path / "no.pt", weights="teacher")
    assert not (tmp_path / "no.pt").exists()


def test_full_precision_is_taken_where_the_checkpoint_keeps_it(save, tmp_path):
    state = taught_state()
    name = "post_extract_proj.weight"
    precise = state["extra_state"]["ema"][name] + 1e-6
    state["extra_state"]["ema_fp32_params"] = {name: precise}
    state["extra_state"]["ema"] = {key: tensor.half() for key, tensor in state["extra_state"]["ema"].items()}
    export_plain(save(state), tmp_path / "teacher.pt", weights="teacher")
    assert torch.equal(load_checkpoint(tmp_path / "teacher.pt")["model"][name], precise)


@pytest.mark.parametrize(
    ("average", "message"),
    [
        ({"post_extract_proj.weight": torch.zeros(2)}, "other tensors than its model"),
        ({"post_extract_proj.weight": "none"}, "is not a table of tensors by name"),
        (None, "trained without ema.store_ema"),
    ],
)
def test_a_damaged_or_missing_average_is_refused(save, tmp_path, average, message):
    state = taught_state()
    state["extra_state"]["ema"] = average
    with pytest.raises(InputError, match=message):
        export_plain(save(state), tmp_path / "teacher.pt", weights="teacher")
    assert not (tmp_path / "teacher.pt").exists()


def test_the_teacher_reaches_transformers(save, recordings, tmp_path):
    from safetensors.torch import load_file

    state = taught_state()
    checkpoint = save(state)
    report = export_huggingface(checkpoint, tmp_path / "teacher", [recordings[0]], weights="teacher")
    assert report["difference"] < 1e-4
    exported = load_file(tmp_path / "teacher" / "model.safetensors")
    name = "wav2vec2.feature_projection.projection.bias"
    assert torch.equal(exported[name], state["extra_state"]["ema"]["post_extract_proj.bias"])
    assert "teacher" in (tmp_path / "teacher" / "README.md").read_text()


def test_the_option_is_for_formats_that_take_a_pre_trained_checkpoint(save, tmp_path, capsys):
    checkpoint = save(taught_state())
    options = ["--checkpoint", checkpoint, "--weights", "teacher"]
    assert run_with("export", "--to", "fairseq", "--out", tmp_path / "teacher.pt", *options) == 0
    with pytest.raises(SystemExit) as stopped:
        run_with("export", "--to", "onnx", "--out", tmp_path / "model.onnx", *options)
    assert stopped.value.code == 2
    assert "has no teacher" in capsys.readouterr().err
