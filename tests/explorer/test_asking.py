from __future__ import annotations

import numpy as np
import pytest

from neurochains.circuits import Measured, query
from neurochains.errors import ExpressionError, LayerError
from neurochains.explorer.asking import NotMeasured, above, answer, measure, missing, rank
from neurochains.explorer.query_panel import describe
from neurochains.explorer.view import View
from neurochains.network import Filter


def nothing(_share, _text):
    return None


def test_a_query_of_the_bundle_is_answered_at_once(desk):
    view = View(expression="tiger - overall")
    found = answer(desk, view)
    wanted = query("tiger - overall", desk.bundle)
    assert missing(desk, view) == ()
    assert all(np.array_equal(found.filters[name], values) for name, values in wanted.scores.items())


def test_an_image_is_measured_once_and_gives_what_measured_gives(desk, network, task):
    view = View(expression='"set1/01.png" - overall')
    assert missing(desk, view) == ("set1/01.png",)
    with pytest.raises(NotMeasured):
        answer(desk, view)
    measure(desk, view, nothing)
    wanted = query('"set1/01.png"', Measured(network, task))
    found = answer(desk, View(expression='"set1/01.png"'))
    for name, values in wanted.scores.items():
        np.testing.assert_allclose(found.filters[name], values, rtol=1e-4, atol=1e-9)


def test_another_target_is_measured_on_the_layers_that_lead_there(desk, network):
    layer = network.scored()[1]
    view = View(expression="tiger", target=f"{layer.name}[0]")
    measure(desk, view, nothing)
    found = answer(desk, view)
    assert list(found.filters)[-1] == layer.name
    assert np.count_nonzero(found.filters[layer.name]) <= 1


def test_what_cannot_be_read_is_told_with_its_place(desk):
    with pytest.raises(ExpressionError, match=r"(?s)No class.*'tigre'.*Did you mean tiger.*\^\^\^\^\^ position 1"):
        missing(desk, View(expression="tigre - overall"))
    with pytest.raises(LayerError):
        missing(desk, View(target="nowhere[3]"))
    shown, wanted = describe(desk, View(expression="tiger -"))
    assert not wanted
    assert "tiger -" in str(shown)


def test_above_keeps_the_fewest_that_carry_a_share():
    scores = np.random.default_rng(0).random((5, 20))
    for share in (0.1, 0.5, 0.9, 1.0):
        kept = above(scores, share)
        for row, mask in zip(scores, kept):
            ordered = np.sort(row)[::-1]
            fewest = int(np.searchsorted(np.cumsum(ordered), share * row.sum() * (1 - 1e-9))) + 1
            assert mask.sum() == fewest
            assert row[mask].min() >= row[~mask].max(initial=0)
    assert not above(np.zeros(4), 0.5).any()


def test_ranks_count_what_is_larger():
    scores = {"a": np.array([3.0, 1.0]), "b": np.array([2.0, 5.0])}
    assert rank(scores, Filter("a", 1)) == (4, 2, 1.0)
    assert rank(scores, Filter("b", 1)) == (1, 1, 5.0)
