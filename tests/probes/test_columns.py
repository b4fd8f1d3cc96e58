import numpy as np
import pytest
import torch
from trainingsets import prepare

from probe.probes.columns import Columns, Losses
from probe.probes.grid_fit import GridFit, Scored, searched
from probe.probes.linear import fit_linear, linear_fit
from probe.probes.linear_labels import labels_fit
from probe.probes.losses import logistic_loss, softmax_loss, squared_hinge_loss
from probe.probes.methods import GRID
from probe.probes.settings import ProbeSettings
from probe.probes.solver import CAUTION


def test_sums_by_problem_of_columns_of_several_kinds() -> None:
    """Two problems of three columns, then three of one: by hand."""
    columns = Columns.of_kinds([2, 3], [3, 1], torch.device("cpu"))
    assert columns.of.tolist() == [0, 0, 0, 1, 1, 1, 2, 3, 4]
    assert columns.width.tolist() == [3, 3, 1, 1, 1]
    a = torch.arange(9.0)[:, None].expand(-1, 2)
    assert columns.summed(a).tolist() == [6, 24, 12, 14, 16]
    assert columns.quickly(a).tolist() == [6, 24, 12, 14, 16]
    assert columns.wide(torch.tensor([5.0, 6, 7, 8, 9]), a)[:, 0].tolist() == [5] * 3 + [6] * 3 + [
        7,
        8,
        9,
    ]
    some, mine = columns.kept(torch.tensor([False, True, True, False, True]))
    assert some.counts == (1, 2)
    assert some.of.tolist() == [0, 0, 0, 1, 2]
    assert mine.nonzero()[:, 0].tolist() == [3, 4, 5, 6, 8]
    assert [(kind, part.shape) for kind, part in some.by_kind(a[mine])] == [
        (0, (1, 3, 2)),
        (1, (2, 1, 2)),
    ]
    alone, _ = columns.kept(torch.tensor([False, False, True, True, True]))
    assert alone.each_alone
    assert [kind for kind, _ in alone.by_kind(a[6:])] == [1]


def test_losses_of_several_kinds_are_those_of_each() -> None:
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(20) % 3
    signs = 2.0 * (labels == 1) - 1
    kinds = (softmax_loss(labels), logistic_loss(signs), squared_hinge_loss(signs.expand(4, -1)))
    columns = Columns.of_kinds([2, 1, 4], [3, 1, 1], torch.device("cpu"))
    m, d = (torch.randn(11, 20, generator=random) for _ in range(2))
    losses = Losses(columns, kinds)
    value, slope = losses.value(m)
    parts = list(zip(kinds, (m[:6].view(2, 3, 20), m[6:7, None], m[7:, None]), strict=True))
    torch.testing.assert_close(value, torch.cat([loss.value(part)[0] for loss, part in parts]))
    apart = [loss.value(part)[1].reshape(-1, 20) for loss, part in parts]
    torch.testing.assert_close(slope, torch.cat(apart))
    bent = losses.bent(slope, d)
    torch.testing.assert_close(
        bent[:6], kinds[0].bent(apart[0].view(2, 3, 20), d[:6].view(2, 3, 20)).view(6, 20)
    )
    torch.testing.assert_close(bent[7:], kinds[2].bent(apart[2][:, None], d[7:, None])[:, 0])
    torch.testing.assert_close(
        losses.diagonal(slope)[6:7], kinds[1].diagonal(apart[1][:, None])[:, 0]
    )


@pytest.mark.parametrize("dim", [12, 200])
def test_probes_and_tasks_side_by_side_come_where_each_comes_alone(dim: int) -> None:
    """Softmax of four, two classes, the squared hinge and several labels in one search."""
    random = np.random.default_rng(0)
    x = random.standard_normal((150, dim)).astype(np.float32)
    four, two = np.arange(120) % 4, np.arange(120) % 2
    x[:120] += 0.5 * random.standard_normal((4, dim)).astype(np.float32)[four]
    labels = random.integers(-1, 2, (120, 3))
    made = prepare(torch.from_numpy(x[:120]), torch.from_numpy(x[120:]), "standard", centre=True)
    points = range(0, len(GRID), 3)

    def of(method: str) -> ProbeSettings:
        return ProbeSettings(method, "standard", GRID, True, "grid", 1e-6)

    fits = [
        linear_fit(of("logistic"), made, four, 4, points, None, CAUTION),
        linear_fit(of("svm"), made, four, 4, points, None, CAUTION),
        linear_fit(of("logistic"), made, two, 2, points, None, CAUTION),
        labels_fit(of("svm"), made, labels, points, None, CAUTION),
        labels_fit(of("logistic"), made, labels, points, None, CAUTION),
    ]
    grids = [fit for fit in fits if isinstance(fit, GridFit)]
    assert len(grids) == len(fits)
    joined = searched(made, grids)
    for together, grid in zip(joined, grids, strict=True):
        (alone,) = searched(made, [grid])
        for a, b in zip(together, alone, strict=True):
            assert a.converged
            assert a.value == b.value
            np.testing.assert_allclose(a.scores, b.scores, atol=5e-3 * float(b.scores.std()))
    # From where those ended, a next point, each with what it is to start from.
    begun = [
        linear_fit(of("logistic"), made, four, 4, [1], joined[0][0], CAUTION),
        linear_fit(of("svm"), made, four, 4, [1], joined[1][0], CAUTION),
    ]
    nexts = searched(made, [fit for fit in begun if isinstance(fit, GridFit)])
    for method, (point,) in zip(("logistic", "svm"), nexts, strict=True):
        cold: list[Scored] = fit_linear(of(method), made, four, 4, [1])
        np.testing.assert_allclose(
            point.scores, cold[0].scores, atol=5e-3 * float(cold[0].scores.std())
        )
