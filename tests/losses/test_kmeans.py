import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ccc_w2v.losses.bank import spherical_kmeans
from ccc_w2v.losses.kmeans import cluster_count, cosine_kmeans, draw_starts, nearest


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
    starts = torch.tensor([[[0, 40, 80, 120]]])
    labels = cosine_kmeans(points[None], starts, iterations=5)[0]
    assert torch.equal(labels, truth)


def test_a_converged_clustering_is_a_fixed_point_of_lloyds_iteration():
    points, _ = clouds(1)
    starts = draw_starts(points[None], 4, 1, torch.Generator().manual_seed(5))
    labels = cosine_kmeans(points[None], starts, 100)[0]
    unit = F.normalize(points, dim=-1)
    centroids = torch.stack([F.normalize(unit[labels == k].sum(0), dim=-1) for k in range(4)])
    assert torch.equal((unit @ centroids.T).argmax(-1), labels)
    assert torch.equal(cosine_kmeans(points[None], starts, 101)[0], labels)


def plain_lloyd(points, starts, iterations):
    """Cosine k-means as it is written in textbooks, one cluster at a time, in float64."""
    units = F.normalize(points.double(), dim=-1)
    centroids = units[starts]
    for _ in range(iterations):
        labels = (units @ centroids.T).argmax(dim=1)
        centroids = torch.stack([F.normalize(units[labels == k].sum(dim=0), dim=-1) for k in range(len(starts))])
    return (units @ centroids.T).argmax(dim=1)


@pytest.mark.parametrize("seed", range(4))
def test_it_makes_as_many_of_lloyds_iterations_as_asked_and_the_length_of_a_point_does_not_count(seed):
    draw = torch.Generator().manual_seed(seed)
    points = torch.randn(300, 5, generator=draw) * torch.rand(300, 1, generator=draw).mul(6).sub(3).exp()
    starts = torch.randperm(300, generator=draw)[:8]
    expected = [plain_lloyd(points, starts, iterations) for iterations in range(5)]
    # Far from converged: an iteration more or less is another clustering.
    assert all(not torch.equal(before, after) for before, after in zip(expected, expected[1:], strict=False))
    for iterations, labels in enumerate(expected):
        assert torch.equal(cosine_kmeans(points[None], starts.view(1, 1, -1), iterations)[0], labels)
    # With several starts each gets a third of the iterations, and the best one all of the rest.
    for iterations, labels in ((1, expected[1]), (4, expected[4])):
        several = starts.repeat(3).view(1, 3, -1)
        assert torch.equal(cosine_kmeans(points[None], several, iterations)[0], labels)


def test_problems_are_independent_of_their_neighbours():
    problems = torch.stack([clouds(seed)[0] for seed in range(3)])
    starts = draw_starts(problems, 4, 2, torch.Generator().manual_seed(0))
    together = cosine_kmeans(problems, starts, 10)
    for index in range(3):
        alone = cosine_kmeans(problems[index : index + 1], starts[index : index + 1], 10)
        assert torch.equal(together[index], alone[0])


def test_starts_are_seeded_and_different_points():
    points = torch.randn(2, 50, 6, generator=torch.Generator().manual_seed(1))
    first, again, other = (draw_starts(points, 10, 3, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8))
    assert first.shape == (2, 3, 10)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert all(row.unique().numel() == 10 for row in first.flatten(0, 1))


def test_the_global_generator_is_neither_used_nor_moved():
    points = clouds(3)[0][None]
    labels = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        labels.append(cosine_kmeans(points, draw_starts(points, 4, 3, torch.Generator().manual_seed(2)), 9))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*labels)


def test_starts_are_drawn_in_proportion_to_their_distance_from_the_one_before():
    """Three directions: from the first, the second is at cosine distance 1 and the third at 2."""
    points = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]])
    starts = draw_starts(points, 2, 30_000, torch.Generator().manual_seed(4))[0]
    from_first = starts[starts[:, 0] == 0, 1]
    share = (from_first == 2).float().mean().item()
    # Five standard deviations of a binomial share.
    assert abs(share - 2 / 3) < 5 * (2 / 9 / len(from_first)) ** 0.5
    assert not (from_first == 0).any()


def test_the_first_start_is_any_point_alike_often():
    points = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(0))
    first = draw_starts(points, 2, 20_000, torch.Generator().manual_seed(6))[0, :, 0]
    counts = torch.bincount(first, minlength=5)
    # Five standard deviations of a binomial count.
    assert (counts - 4000).abs().max() < 5 * (20_000 * 0.2 * 0.8) ** 0.5


def test_infinite_points_of_an_overflowing_update_break_nothing():
    points = torch.randn(1, 20, 4, generator=torch.Generator().manual_seed(0))
    points[0, 3] = float("inf")
    starts = draw_starts(points, 4, 2, torch.Generator().manual_seed(1))
    assert starts.min() >= 0
    assert starts.max() < 20
    assert cosine_kmeans(points, starts, 6).shape == (1, 20)


def inertia(points, labels, clusters):
    unit = F.normalize(points, dim=-1)
    sums = torch.zeros(clusters, points.size(1)).index_add_(0, labels, unit)
    return 1 - sums.norm(dim=-1).sum().item() / len(points)


def test_it_ends_no_worse_than_faiss_on_average_over_20_seeds():
    ours = theirs = 0.0
    for seed in range(20):
        points = clouds(seed, per_cloud=25, clouds=12)[0] + 0.1 * torch.randn(
            300, 16, generator=torch.Generator().manual_seed(seed)
        )
        starts = draw_starts(points[None], 12, 3, torch.Generator().manual_seed(seed))
        ours += inertia(points, cosine_kmeans(points[None], starts, 25)[0], 12)
        centroids = spherical_kmeans(F.normalize(points, dim=-1), 12, seed)
        theirs += inertia(points, nearest(points[None], centroids[None])[0], 12)
    assert ours <= theirs


def test_the_best_of_the_starts_goes_on():
    points, truth = clouds(0)
    # Three starts in the second cloud, which Lloyd's iteration does not repair; one in each.
    bad, good = [40, 41, 52, 109], [0, 40, 80, 120]

    def clouds_found(*starts):
        labels = cosine_kmeans(points[None], torch.tensor([starts]), 9)[0]
        return torch.equal(labels[:, None] == labels, truth[:, None] == truth)

    assert not clouds_found(bad)
    assert clouds_found(bad, good, bad)
    assert clouds_found(good, bad)


@given(st.integers(2, 9), st.integers(1, 3), st.integers(1, 4), st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_more_clusters_than_distinct_points_do_no_harm(points, distinct, restarts, seed):
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randn(distinct, 4, generator=draw)[torch.randint(distinct, (points,), generator=draw)]
    starts = draw_starts(rows[None], 10, restarts, draw)
    labels = cosine_kmeans(rows[None], starts, 20)[0]
    assert labels.shape == (points,)
    assert labels.max() < starts.size(-1)
    same_point = (rows[:, None] == rows).all(-1)
    # Converged: no point is nearer to the mean of another cluster than to that of its own.
    units = torch.nn.functional.normalize(rows, dim=-1)
    means = torch.stack([units[labels == label].sum(0) for label in labels.unique()])
    similarity = units @ torch.nn.functional.normalize(means, dim=-1).T
    own = similarity.gather(1, torch.searchsorted(labels.unique(), labels)[:, None])
    assert (own >= similarity - 1e-5).all()
    assert (labels[:, None] == labels)[same_point].all()


def test_zeros_are_clustered_without_harm():
    points = torch.zeros(1, 6, 4)
    labels = cosine_kmeans(points, draw_starts(points, 2, 2, torch.Generator().manual_seed(0)), 5)
    assert labels.shape == (1, 6)
    assert (labels == labels[0, 0]).all()


def test_no_gradient_graph_is_kept_of_clustering():
    """The labels have no gradient in any case: what costs memory are the activations that a graph would hold."""
    points, kept = torch.randn(1, 30, 8, generator=torch.Generator().manual_seed(0)).requires_grad_(), []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda tensor: tensor):
        (points * points).sum()
        assert kept  # of what does need a graph
        kept.clear()
        starts = draw_starts(points, 3, 2, torch.Generator().manual_seed(1))
        cosine_kmeans(points, starts, 5)
    assert kept == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_no_cluster(dtype):
    points = torch.randn(2, 200, 16, generator=torch.Generator().manual_seed(3))

    def clustered():
        starts = draw_starts(points, 6, 3, torch.Generator().manual_seed(1))
        return starts, cosine_kmeans(points, starts, iterations=9)

    expected = clustered()
    with torch.autocast("cpu", dtype=dtype):
        actual = clustered()
    assert all(torch.equal(*pair) for pair in zip(expected, actual, strict=True))
