import os
import pickle

import numpy as np
import pytest
import torch
from fairseq.models.wav2vec import wav2vec2
from fairseq.tasks.audio_finetuning import AudioFinetuningConfig, AudioFinetuningTask
from omegaconf import OmegaConf

from ccc_w2v.checkpoint.read import load_checkpoint
from ccc_w2v.compat import prepare, setting
from ccc_w2v.errors import InputError
from ccc_w2v.training.finetuning_labels import check_finetuning_labels
from tests.fake_corpora import RATE, write_corpus, write_labels


class RunsCode:
    def __reduce__(self):
        return os.getpid, ()


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_checkpoint_that_pickles_code_is_refused_in_one_line_without_advice_to_turn_safety_off(
    tmp_path, protocol, recwarn
):
    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps({"model": RunsCode(), "cfg": {}}, protocol=protocol))
    with pytest.raises(InputError, match="not a readable fairseq checkpoint") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert not recwarn.list


def test_a_missing_or_truncated_checkpoint_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "none.pt")
    (tmp_path / "half.pt").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(InputError, match="not a readable fairseq checkpoint") as caught:
        load_checkpoint(tmp_path / "half.pt")
    assert "\n" not in str(caught.value)


def test_finetuning_names_what_is_wrong_with_its_labels(tmp_path, caplog, capsys):
    check_finetuning_labels()
    check_finetuning_labels()
    manifest = write_corpus(tmp_path, [16000] * 4)
    write_labels(manifest, ["THE CAT"] * 3 + [""])
    settings = AudioFinetuningConfig(data=str(tmp_path), labels="ltr", sample_rate=RATE, tpu=False)
    cfg = OmegaConf.create({"task": OmegaConf.structured(settings)}).task
    task = AudioFinetuningTask.setup_task(cfg)
    caplog.set_level("WARNING")
    task.load_dataset("train")
    assert len(task.datasets["train"]) == 4
    assert sum("1 of 4 lines are empty" in record.getMessage() for record in caplog.records) == 1
    manifest.with_suffix(".ltr").write_text(manifest.with_suffix(".ltr").read_text().lower())
    with pytest.raises(SystemExit) as ended:
        task.load_dataset("train")
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    assert "the dictionary knows them in upper case: change the labels' case" in message


def test_a_setting_is_found_by_its_path_and_none_where_there_is_none():
    cfg = OmegaConf.create({"model": {"_name": "m", "w2v_args": {"task": None}, "text": "t", "open": "???"}})
    assert setting(cfg, "model._name") == "m"
    assert setting(cfg, "model.w2v_args.task") is None
    for path in ("model.w2v_args.task._name", "model.text._name", "model.open", "criterion.post_process", "x"):
        assert setting(cfg, path) is None


def test_fairseqs_masks_follow_the_seed_of_the_update():
    def drawn(seed):
        torch.manual_seed(seed)
        padding = torch.zeros(2, 60, dtype=torch.bool)
        padding[1, 40:] = True
        # Time and channels, as fairseq's fine-tuning draws them.
        times = [wav2vec2.compute_mask_indices((2, 60), padding, 0.5, 5, min_masks=2) for _ in range(2)]
        return np.concatenate([*times, wav2vec2.compute_mask_indices((2, 60), None, 0.25, 8)])

    prepare()
    prepare()
    np.random.seed(1)
    first, state = drawn(3), np.random.get_state()[1].copy()
    np.random.rand(5)
    np.testing.assert_array_equal(drawn(3), first)
    assert not np.array_equal(drawn(4), first)
    assert not np.array_equal(first[:2], first[2:4])
    np.random.seed(1)
    drawn(3)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
