from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurochains.chains import OBJECTIVES, Scores
from neurochains.chains.live import LiveNetwork
from neurochains.errors import DataError

IMAGES = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def live(mixed) -> LiveNetwork:
    return make(mixed)


def make(network, scores=None) -> LiveNetwork:
    return LiveNetwork(network, IMAGES, OBJECTIVES["kl"], layers=network.scored(), scores=scores)


def assert_same_as_full_width(live: LiveNetwork) -> None:
    wanted = live.result().run(live.network, IMAGES)
    torch.testing.assert_close(live.logits(live.scores), wanted, rtol=1e-4, atol=1e-5)


def first(live: LiveNetwork, count: int) -> torch.Tensor:
    return torch.arange(len(live)) < count


def test_it_starts_as_the_whole_network(live, mixed):
    assert (len(live), live.total) == (35, 35)
    torch.testing.assert_close(live.logits(live.scores), mixed(IMAGES))
    assert float(live.divergence(live.scores)) == pytest.approx(0, abs=1e-6)
    assert live.result().kept == 35


steps = st.lists(
    st.tuples(st.sampled_from(["drop", "scale", "save", "restore", "skip", "compact"]), st.integers(0, 999)),
    min_size=1,
    max_size=6,
)


@settings(max_examples=25, deadline=None)
@given(steps)
def test_whatever_happens_to_it_its_outputs_are_those_of_its_scores_at_full_width(mixed, steps):
    live, saved = make(mixed), None
    for step, seed in steps:
        dice = torch.Generator().manual_seed(seed)
        if step == "drop":
            live.drop(torch.rand(len(live), generator=dice) < 0.3)
        elif step == "scale":
            live.scores = 0.5 + torch.rand(len(live), generator=dice)
        elif step == "save":
            saved = live.save()
        elif step == "restore" and saved is not None:
            live.restore(saved)
        elif step == "skip" and not live.skipped:
            live.skip(mixed.blocks[0].name, live.members(mixed.blocks[0].layers))
        elif step == "compact":
            live.compact()
        assert len(live) == len(live.scores) == live.result().kept
    assert_same_as_full_width(live)


def test_it_is_compacted_again_when_a_quarter_has_gone(striped, stripes_task):
    live = LiveNetwork(striped, stripes_task.images, OBJECTIVES["kl"], layers=striped.scored())
    whole = live.save().small
    live.drop(first(live, 6))
    assert live.save().small is whole
    live.drop(first(live, 1))
    assert sum(map(len, live.save().small.kept.values())) == len(live) == 17


def test_compaction_does_not_change_the_outputs(live):
    live.drop(first(live, 5))
    before = live.logits(live.scores)
    live.compact()
    torch.testing.assert_close(live.logits(live.scores), before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dropped", [0, 4])
def test_scores_by_image_are_rows_of_scores(live, dropped):
    live.drop(first(live, dropped))
    each = torch.rand(len(IMAGES), len(live)) + 0.5
    outputs = live.logits(each)
    for image, row in enumerate(each):
        torch.testing.assert_close(outputs[image], live.logits(row)[image], rtol=1e-5, atol=1e-6)


def test_other_images_may_be_run(live, mixed):
    others = torch.randn(7, 3, 12, 12)
    torch.testing.assert_close(live.logits(live.scores, others), mixed(others))


def test_restore_brings_back_the_outputs_bit_for_bit(live, mixed):
    live.drop(first(live, 3))
    before, state = live.logits(live.scores), live.save()
    live.drop(torch.arange(len(live)) % 2 == 0)
    live.skip(mixed.blocks[0].name, live.members(mixed.blocks[0].layers))
    live.restore(state)
    assert torch.equal(live.logits(live.scores), before)
    assert (len(live), live.skipped) == (32, ())


def test_the_result_starts_another_where_this_one_ended(live, mixed):
    live.drop(torch.arange(35) % 3 == 1)
    live.scores = torch.rand(len(live)) + 0.5
    live.skip(mixed.blocks[0].name, live.members(mixed.blocks[0].layers))
    again = make(mixed, live.result())
    assert torch.equal(again.alive, live.alive)
    assert torch.equal(again.scores, live.scores)
    assert again.skipped == live.skipped == (mixed.blocks[0].name,)
    torch.testing.assert_close(again.logits(again.scores), live.logits(live.scores))


def test_the_result_is_at_full_width_in_the_layers_order(live, mixed):
    live.drop(first(live, 7))
    live.scores = torch.arange(28.0) + 1
    result = live.result()
    assert list(result.units) == [layer.name for layer in mixed.scored()]
    assert torch.cat(list(result.units.values())).tolist() == [0.0] * 7 + list(range(1, 29))


def test_members_are_the_living_units_of_the_layers(live, mixed):
    names = [layer.name for layer in mixed.scored()][1:3]
    live.drop(torch.arange(35) % 2 == 0)
    owners = [layer.name for layer in mixed.scored() for _ in range(layer.units)]
    wanted = [owners[unit] in names for unit in live.alive]
    assert live.members(names).tolist() == wanted
    assert 0 < sum(wanted) < len(live)


def test_the_divergence_is_the_mean_over_the_images(live, mixed):
    live.drop(first(live, 4))
    outputs = live.result().run(mixed, IMAGES)
    wanted = OBJECTIVES["kl"](outputs, mixed(IMAGES)).mean()
    assert float(live.divergence(live.scores)) == pytest.approx(float(wanted), rel=1e-3)


def test_a_network_without_units_answers_with_a_constant(mixed):
    live = make(mixed, Scores({layer.name: torch.zeros(layer.units) for layer in mixed.scored()}))
    assert len(live) == 0
    assert_same_as_full_width(live)


def test_images_of_another_size_are_refused(mixed):
    with pytest.raises(DataError, match=r"traced for inputs \(B, 3, 12, 12\); got \(2, 3, 8, 8\)"):
        LiveNetwork(mixed, torch.zeros(2, 3, 8, 8), OBJECTIVES["kl"], layers=mixed.scored())


def test_images_may_count_more_often_for_a_while(live):
    images, before = live.images, float(live.divergence(live.scores * 0.5))
    rows = [*range(len(images)), 0, 0]
    with live.repeating(torch.tensor([0]), 3):
        assert torch.equal(live.images, images[rows])
        expected = live.objective(live.logits(live.scores * 0.5), live.original).mean()
        assert float(live.divergence(live.scores * 0.5)) == pytest.approx(float(expected))
    assert torch.equal(live.images, images)
    assert float(live.divergence(live.scores * 0.5)) == pytest.approx(before)


def test_the_share_is_of_the_units_that_are_computed(live):
    assert live.share == 1
    live.drop(torch.arange(len(live)) % 2 == 0)
    assert 0.4 < live.share < 1
