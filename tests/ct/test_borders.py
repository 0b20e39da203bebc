import numpy as np

from ct.borders import nearest_border


def brute_force(groups: np.ndarray, spacing: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    neighbour, distance = np.zeros(groups.shape, int), np.full(groups.shape, 127.5)
    for y, x in np.ndindex(*groups.shape):
        if groups[y, x] >= 0:
            neighbour[y, x] = groups[y, x]
            for v, u in np.ndindex(*groups.shape):
                d = np.hypot((v - y) * spacing[0], (u - x) * spacing[1]) - sum(spacing) / 4
                if groups[v, u] >= 0 and groups[v, u] != groups[y, x] and d < distance[y, x]:
                    neighbour[y, x], distance[y, x] = groups[v, u], d
    return neighbour, distance


def test_border_is_the_brute_force_nearest_other_class() -> None:
    rng = np.random.default_rng(0)
    for spacing in [(1.0, 1.0), (2.5, 1.7)]:
        groups = rng.choice([-1, 0, 1, 2, 4], (9, 11), p=[0.1, 0.3, 0.3, 0.2, 0.1]).astype(np.int8)
        borders = nearest_border(groups, spacing)
        neighbour, distance = brute_force(groups, spacing)
        np.testing.assert_array_equal(borders[1], np.where(groups < 0, 255, np.rint(distance * 2)))
        # Of two classes at the same distance either is right.
        ys, xs = np.nonzero((groups >= 0) & (borders[0] != neighbour))
        for y, x in zip(ys, xs, strict=True):
            same = np.argwhere(groups == borders[0, y, x])
            nearest = np.hypot((same[:, 0] - y) * spacing[0], (same[:, 1] - x) * spacing[1]).min() - sum(spacing) / 4
            assert nearest == distance[y, x]


def test_a_slice_of_one_class_and_unlabelled_pixels_have_no_border() -> None:
    groups = np.full((4, 5), 1, np.int8)
    groups[:, 0] = -1
    borders = nearest_border(groups, (1.0, 1.0))
    assert (borders[1] == 255).all()
    assert (borders[0][:, 1:] == 1).all()
    assert (borders[0][:, 0] == 0).all()


def test_far_away_is_capped() -> None:
    groups = np.zeros((1, 40), np.int8)
    groups[0, 0] = 3
    borders = nearest_border(groups, (10.0, 10.0))
    assert borders[1][0, 1] == 10  # 5 mm: half a pixel before the next class
    assert borders[1][0, -1] == 255
