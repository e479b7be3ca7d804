"""Rooms on disk: simulated once, by several processes together, whatever becomes of them or of the disk."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch

from ccc_w2v.augment import room_cache
from ccc_w2v.augment.base import Range
from ccc_w2v.augment.pipeline import load_pipeline
from ccc_w2v.augment.reverb import Reverb
from ccc_w2v.augment.room_cache import CHUNK, pool

from .conftest import RATE


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")  # no helpers, but where a test wants them
    return tmp_path / "ccc_w2v/rooms"


def response(room: int) -> tuple[torch.Tensor, int]:
    return torch.full((room % 7 + 1,), float(room)), room % 5


class Counted:
    """Simulates rooms and notes each in a file, whichever process does it."""

    def __init__(self, folder: Path):
        self.log = folder / "simulated"

    def __call__(self, room: int) -> tuple[torch.Tensor, int]:
        with open(self.log, "a") as file:
            file.write(f"{room}\n")
        return response(room)

    def rooms(self) -> list[int]:
        return sorted(map(int, self.log.read_text().split())) if self.log.exists() else []


def assert_pool(pool: list[tuple[torch.Tensor, int]], rooms: int) -> None:
    assert len(pool) == rooms
    for room, (samples, direct) in enumerate(pool):
        assert torch.equal(samples, response(room)[0])
        assert direct == response(room)[1]


def test_a_pool_is_simulated_once_and_grows_by_what_is_missing(tmp_path: Path, cache: Path) -> None:
    counted = Counted(tmp_path)
    assert_pool(pool("a", 2 * CHUNK, counted), 2 * CHUNK)
    assert_pool(pool("a", 2 * CHUNK, counted), 2 * CHUNK)
    assert counted.rooms() == list(range(2 * CHUNK))
    assert_pool(pool("a", 3 * CHUNK, counted), 3 * CHUNK)
    assert counted.rooms() == list(range(3 * CHUNK))
    assert [path.name for path in sorted(cache.glob("a/*.safetensors"))] == [
        *("0-50.safetensors", "100-150.safetensors", "50-100.safetensors")
    ]


def test_processes_share_the_work_out(tmp_path: Path) -> None:
    counted, context = Counted(tmp_path), multiprocessing.get_context("fork")
    others = [context.Process(target=pool, args=("a", 8 * CHUNK, counted)) for _ in range(3)]
    for other in others:
        other.start()
    assert_pool(pool("a", 8 * CHUNK, counted), 8 * CHUNK)
    for other in others:
        other.join()
    assert [other.exitcode for other in others] == [0, 0, 0]
    assert counted.rooms() == list(range(8 * CHUNK))


def test_idle_cores_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(3))
    counted = Counted(tmp_path)
    assert_pool(pool("a", 6 * CHUNK, counted), 6 * CHUNK)
    assert counted.rooms() == list(range(6 * CHUNK))


def test_a_killed_process_leaves_its_chunk_to_the_next(tmp_path: Path, cache: Path) -> None:
    def killed(room: int) -> tuple[torch.Tensor, int]:
        if room == CHUNK + 10:
            os.kill(os.getpid(), signal.SIGKILL)
        return response(room)

    process = multiprocessing.get_context("fork").Process(target=pool, args=("a", 2 * CHUNK, killed))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    counted = Counted(tmp_path)
    assert_pool(pool("a", 2 * CHUNK, counted), 2 * CHUNK)
    assert counted.rooms() == list(range(CHUNK, 2 * CHUNK))


def test_a_damaged_file_is_simulated_again(tmp_path: Path, cache: Path) -> None:
    counted = Counted(tmp_path)
    pool("a", 9, counted)
    (file,) = cache.glob("a/*.safetensors")
    for damage in (file.read_bytes()[:-5], b"", b"not a file of tensors"):
        file.write_bytes(damage)
        assert_pool(pool("a", 9, counted), 9)
    assert counted.rooms() == sorted(4 * list(range(9)))


def test_without_a_disk_rooms_are_simulated_for_this_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # no folder can be made in it, by root either
    with caplog.at_level(logging.WARNING):
        assert_pool(pool("a", 3, response), 3)
    assert "cannot keep simulated rooms" in caplog.text


def test_the_rooms_of_a_reverb_come_back_from_disk_bit_for_bit(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Reverb(RATE, rooms=2)
    first.prepare()
    monkeypatch.setattr(Reverb, "_simulate", lambda *_: pytest.fail("simulated twice"))
    second = Reverb(RATE, rooms=2)
    second.prepare()
    for room in range(2):
        assert torch.equal(first.response(room)[0], second.response(room)[0])
        assert first.response(room)[1] == second.response(room)[1]
    assert len(list(cache.glob("*/*.safetensors"))) == 1


def test_other_rooms_have_another_name() -> None:
    names = [
        Reverb(RATE)._pool_name(),
        Reverb(8000)._pool_name(),
        Reverb(RATE, seed=1)._pool_name(),
        *(Reverb(RATE, **{key: Range(1.6, 1.7)})._pool_name() for key in ("rt60_s", "damping", "edge_m", "height_m")),
        Reverb(RATE, distance_m=Range(0.1, 0.2))._pool_name(),
    ]
    assert len(set(names)) == len(names)
    assert Reverb(RATE, rooms=7)._pool_name() == names[0]  # a larger pool begins with the smaller one


def test_the_papers_preset_has_a_thousand_rooms(noise_manifest: Path) -> None:
    (reverb,) = [
        part.transform
        for part in load_pipeline("paper", RATE, noise_manifest=noise_manifest).transforms
        if isinstance(part.transform, Reverb)
    ]
    assert reverb.rooms >= 1000
    drawn = {reverb.draw(torch.Generator().manual_seed(seed), 1)["room"] for seed in range(2000)}
    assert len(drawn) > 800


def test_the_cache_is_where_the_xdg_specification_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert room_cache.cache_folder() == tmp_path / "ccc_w2v"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert room_cache.cache_folder() == Path.home() / ".cache/ccc_w2v"
