import pytest
import torch
import torch.nn.functional as F

from ccc_w2v.losses.kmeans import cluster_count, cosine_kmeans, draw_starts


@pytest.mark.parametrize(("frames", "factor", "expected"), [(380, 16, 23), (20, 16, 2), (1, 16, 2), (64, 16, 4)])
def test_cluster_count(frames, factor, expected):
    assert cluster_count(frames, factor) == expected


def clouds(seed, per_cloud=40, clouds=4, width=16):
    draw = torch.Generator().manual_seed(seed)
    centres = torch.linalg.qr(torch.randn(width, width, generator=draw))[0][:clouds]
    truth = torch.arange(clouds).repeat_interleave(per_cloud)
    points = centres[truth] + 0.05 * torch.randn(len(truth), width, generator=draw)
    return points * torch.rand(len(truth), 1, generator=draw).add(0.1), truth


def test_separate_clouds_are_found_whatever_their_length():
    points, truth = clouds(0)
    starts = torch.tensor([[0, 40, 80, 120]])
    labels = cosine_kmeans(points[None], starts, iterations=5)[0]
    assert torch.equal(labels, truth)


def test_a_converged_clustering_is_a_fixed_point_of_lloyds_iteration():
    points, _ = clouds(1)
    starts = draw_starts(1, len(points), 4, torch.Generator().manual_seed(5))
    labels = cosine_kmeans(points[None], starts, 100)[0]
    unit = F.normalize(points, dim=-1)
    centroids = torch.stack([F.normalize(unit[labels == k].sum(0), dim=-1) for k in range(4)])
    assert torch.equal((unit @ centroids.T).argmax(-1), labels)
    assert torch.equal(cosine_kmeans(points[None], starts, 101)[0], labels)


def test_problems_are_independent_of_their_neighbours():
    problems = torch.stack([clouds(seed)[0] for seed in range(3)])
    starts = draw_starts(3, problems.size(1), 4, torch.Generator().manual_seed(0))
    together = cosine_kmeans(problems, starts, 10)
    for index in range(3):
        alone = cosine_kmeans(problems[index : index + 1], starts[index : index + 1], 10)
        assert torch.equal(together[index], alone[0])


def test_starts_are_seeded_and_different_points():
    first = draw_starts(2, 50, 10, torch.Generator().manual_seed(7))
    again = draw_starts(2, 50, 10, torch.Generator().manual_seed(7))
    other = draw_starts(2, 50, 10, torch.Generator().manual_seed(8))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert all(row.unique().numel() == 10 for row in first)


def test_more_clusters_than_points_or_equal_points_do_no_harm():
    starts = draw_starts(1, 3, 10, torch.Generator().manual_seed(0))
    labels = cosine_kmeans(torch.ones(1, 3, 4), starts, 5)
    assert labels.unique().numel() == 1
    zeros = cosine_kmeans(torch.zeros(1, 6, 4), torch.tensor([[0, 1]]), 5)
    assert zeros.shape == (1, 6)


def test_no_gradient_flows_through_clustering():
    points = torch.randn(1, 30, 8, requires_grad=True)
    labels = cosine_kmeans(points, torch.tensor([[0, 1, 2]]), 5)
    assert not labels.requires_grad and labels.grad_fn is None
