"""What a training says before fairseq begins, without one."""

import os
import shutil
import socket
import tempfile
from types import SimpleNamespace

import pytest

from ccc_w2v.data.manifest import read_manifest, write_manifest
from ccc_w2v.errors import InputError
from ccc_w2v.training.checks import check_lengths, check_sharded_memory, check_sockets

HOUR = 57_600_000


@pytest.fixture
def manifest(tmp_path):
    entries = [("short.wav", 8_000), ("a.wav", 32_000), ("b.wav", 48_000), ("hour.wav", HOUR)]
    write_manifest(tmp_path / "train.tsv", tmp_path, entries)
    return read_manifest(tmp_path / "train.tsv")


def config(**settings):
    task = {"min_sample_size": None, "max_sample_size": None, "sample_rate": 16_000}
    dataset = {"max_tokens": 3_200_000}
    for name, value in settings.items():
        (dataset if name in dataset else task)[name] = value
    return SimpleNamespace(task=SimpleNamespace(**task), dataset=SimpleNamespace(**dataset))


def test_what_fine_tuning_leaves_out_is_a_warning_with_share_and_hours(manifest, caplog):
    caplog.set_level("WARNING")
    check_lengths(manifest, config(min_sample_size=16_000))
    short, long = [record.getMessage() for record in caplog.records]
    assert "1 of 4 utterances (25.0%; 0.00 of 1.00 h) are shorter than task.min_sample_size=16000 and left out" in short
    assert "1 of 4 utterances (25.0%; 1.00 of 1.00 h) are longer than dataset.max_tokens=3200000 and left out" in long


@pytest.mark.parametrize("settings", [{"max_tokens": None}, {"max_sample_size": 250_000}, {"max_tokens": HOUR}])
def test_what_is_cropped_or_fits_is_not_left_out(manifest, settings, caplog):
    check_lengths(manifest, config(**settings))
    assert not caplog.records


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"min_sample_size": HOUR + 1}, "shorter than task.min_sample_size"), ({"max_tokens": 4_000}, "longer than data")],
)
def test_nothing_left_to_train_on_is_an_error(manifest, settings, said):
    with pytest.raises(InputError, match=f"all 4 utterances are {said}.*: change that setting"):
        check_lengths(manifest, config(**settings))


def test_fsdp_is_refused_and_zero_needs_fairscale(monkeypatch):
    plain = SimpleNamespace(ddp_backend="legacy_ddp", zero_sharding="none")
    zero = SimpleNamespace(ddp_backend="legacy_ddp", zero_sharding="os")
    check_sharded_memory(plain)
    with pytest.raises(InputError, match="ddp_backend=fully_sharded: .*; use legacy_ddp"):
        check_sharded_memory(SimpleNamespace(ddp_backend="fully_sharded", zero_sharding="none"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    check_sharded_memory(plain)
    with pytest.raises(InputError, match="needs fairscale, which is not installed"):
        check_sharded_memory(zero)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    check_sharded_memory(zero)


def test_a_temporary_folder_whose_sockets_would_have_too_long_names_is_refused(monkeypatch):
    """The limit is the kernel's: below the longest folder that passes a socket can be bound, below a longer one not."""
    root = tempfile.mkdtemp(prefix="s")
    for extra, fits in ((0, True), (1, False)):
        folder = f"{root}/" + "x" * (107 - len("/pymp-abcdefgh/listener-abcdefgh") - len(root) - 1 + extra)
        os.makedirs(f"{folder}/pymp-abcdefgh")
        monkeypatch.setattr(tempfile, "tempdir", folder)
        check_sockets(0)
        with socket.socket(socket.AF_UNIX) as bound:
            if fits:
                check_sockets(2)
                bound.bind(f"{folder}/pymp-abcdefgh/listener-abcdefgh")
            else:
                with pytest.raises(OSError, match="too long"):
                    bound.bind(f"{folder}/pymp-abcdefgh/listener-abcdefgh")
                with pytest.raises(InputError, match=r"dataset.num_workers=2 .at most 75 bytes.; set TMPDIR"):
                    check_sockets(2)
    shutil.rmtree(root)
