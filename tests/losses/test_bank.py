import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from ccc_w2v.errors import InputError
from ccc_w2v.losses.bank import POINTS_PER_CENTROID, TargetBank, empty_bank, spherical_kmeans


def bank(state, **settings):
    usual = {"size": 200, "points_per_batch": 60, "clusters": 4, "refit_every": 3, "seed": 1}
    return TargetBank(state, **{**usual, **settings})


def points(count, seed):
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))


def generator(seed):
    return torch.Generator().manual_seed(seed)


def test_the_latest_points_replace_the_oldest():
    state = empty_bank()
    for batch in range(5):
        bank(state).add(torch.full((30, 8), float(batch + 1)) * torch.eye(8)[batch], generator(batch))
    assert state["filled"] == 200
    assert state["next"] == 300 - 200
    ages = state["points"].argmax(dim=1)
    assert ages.bincount(minlength=5).tolist() == [0, 20, 60, 60, 60]
    torch.testing.assert_close(state["points"].norm(dim=1), torch.ones(200))


def test_a_batch_larger_than_the_bank_fills_it_once():
    state = empty_bank()
    bank(state, size=50, points_per_batch=80).add(points(100, 0), generator(0))
    assert state["filled"] == 50
    assert state["next"] == 0


def test_it_is_clustered_once_there_is_enough_and_then_every_so_many_updates():
    state = empty_bank()
    bank(state).add(points(100, 0), generator(0))
    assert not bank(state).refit(0)
    assert bank(state).centroids(torch.device("cpu")) is None
    for batch in (1, 2):
        bank(state).add(points(100, batch), generator(batch))
    assert state["filled"] >= POINTS_PER_CENTROID * 4
    assert [bank(state).refit(update) for update in (1, 1, 2, 3, 4, 5, 7)] == [
        *(True, False, False, False),  # one clustering for each update, however many batches it has
        *(True, False, True),
    ]
    assert state["centroids"].shape == (4, 8)
    torch.testing.assert_close(state["centroids"].norm(dim=1), torch.ones(4))


def test_points_of_zeros_and_infinities_are_left_out_of_the_clustering():
    state = empty_bank()
    for batch in range(4):
        bank(state).add(points(100, batch) * (batch != 1), generator(batch))
    assert not bank(state).refit(0)  # 140 of 200 points are left, 4 clusters need 156
    bad = points(100, 9)
    bad[::2] = float("inf")
    bank(state).add(bad, generator(9))
    bank(state).add(points(100, 10), generator(10))
    assert state["points"].isfinite().all()
    assert bank(state).refit(0)
    assert state["centroids"].isfinite().all()


def test_a_saved_bank_goes_on_like_the_one_that_was_not(tmp_path):
    def go_on(state, updates):
        for update in updates:
            bank(state).refit(update)
            bank(state).add(points(100, update), generator(update))

    straight, saved = empty_bank(), empty_bank()
    go_on(straight, range(12))
    go_on(saved, range(5))
    torch.save(saved, tmp_path / "bank.pt")
    resumed = torch.load(tmp_path / "bank.pt", weights_only=True)
    go_on(resumed, range(5, 12))
    for name in ("points", "centroids"):
        assert torch.equal(resumed[name], straight[name])
    assert resumed["fitted_at"] == straight["fitted_at"] == 9


def test_a_bank_of_another_size_is_refused_when_a_run_goes_on():
    state = empty_bank()
    for update in range(5):
        bank(state).add(points(100, update), generator(update))
        bank(state).refit(update)
    with pytest.raises(InputError, match="criterion.bank_size=500: the run that is resumed here has 200"):
        bank(state, size=500)
    with pytest.raises(InputError, match="criterion.bank_clusters=5: the run that is resumed here has 4"):
        bank(state, clusters=5)


def test_faiss_finds_separate_clouds():
    centres = torch.eye(8)[:4].repeat_interleave(50, dim=0)
    cloud = F.normalize(centres + 0.05 * points(200, 3), dim=-1)
    centroids = spherical_kmeans(cloud, 4, seed=0)
    labels = (cloud @ centroids.T).argmax(dim=1).view(4, 50)
    assert (labels == labels[:, :1]).all()
    assert labels[:, 0].unique().numel() == 4
    assert torch.equal(centroids, spherical_kmeans(cloud, 4, seed=0))


TWO_PROCESSES = """
import sys, torch, torch.distributed as distributed
from ccc_w2v.errors import InputError
from ccc_w2v.losses.bank import TargetBank, empty_bank
rank, folder = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
state = empty_bank()
for update in range(6):
    bank = TargetBank(state, 200, 30, 4, 3, seed=1)
    bank.refit(update)
    own = torch.Generator().manual_seed(10 * update + rank)
    bank.add(torch.randn(50, 8, generator=own), own)
torch.save(state, f"{folder}/state{rank}.pt")
# Without it gloo's threads outlive the interpreter, and a process in three ends in SIGABRT.
distributed.barrier()
distributed.destroy_process_group()
"""


def test_two_processes_hold_one_bank_and_identical_centroids(tmp_path):
    root = Path(__file__).resolve().parents[2]
    processes = [
        subprocess.Popen([sys.executable, "-c", TWO_PROCESSES, str(rank), str(tmp_path)], cwd=root) for rank in (0, 1)
    ]
    assert [process.wait(timeout=3600) for process in processes] == [0, 0]
    first, second = (torch.load(tmp_path / f"state{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["filled"] == 200
    assert first["fitted_at"] == 3
    assert torch.equal(first["points"], second["points"])
    assert torch.equal(first["centroids"], second["centroids"])
    assert first["points"].any(dim=1).all()


def test_without_faiss_the_scope_is_refused_in_one_sentence(monkeypatch):
    import importlib.util

    from ccc_w2v.errors import InputError
    from ccc_w2v.losses.bank import require_faiss

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install faiss-cpu"):
        require_faiss()
