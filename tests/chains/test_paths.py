from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurochains.chains import Scores
from neurochains.chains.calculation import OUTPUT
from neurochains.chains.contributions import Contributions, contributions
from neurochains.chains.goal import Goal
from neurochains.chains.objectives import kl_divergence
from neurochains.chains.paths import Path, find_paths, paths, share_out
from neurochains.chains.search import SearchSettings, find_subnetwork
from neurochains.data import Task
from neurochains.errors import SettingsError
from neurochains.network import Filter, Network, load_model


def made(widths: list[int], pairs: dict[tuple[int, int], list[list[float]]]) -> Contributions:
    """Contributions to one class: layer 0 is the input, the last one the class; ``T x S`` by (source, target)."""
    names = ["input", *(f"L{i}" for i in range(1, len(widths) - 1)), OUTPUT]
    units = {name: torch.arange(width) for name, width in zip(names, widths)}
    kernels = {(names[s], names[t]): torch.tensor([block], dtype=torch.float64) for (s, t), block in pairs.items()}
    return Contributions((0,), units, kernels)


class Named:
    """What `find_paths` asks a network for."""

    def label(self, unit: Filter) -> str:
        return f"{unit.layer}_{unit.index}"


def found_in(contributed: Contributions, k: int = 1) -> list[Path]:
    scores = Scores({name: torch.ones(len(units)) for name, units in contributed.units.items()})
    return find_paths(Named(), Task(torch.zeros(1, 1, 2, 2)), scores, contributed, k)[0]  # type: ignore[arg-type]


def every_path(contributed: Contributions) -> dict[tuple[Filter, ...], float]:
    """All paths from the input to the class and the product of their shares, by trying all there are."""
    shares = share_out(contributed, 0)
    names = list(contributed.units)
    found = {}
    for size in range(len(names) - 1):
        for between in itertools.combinations(names[1:-1], size):
            layers = ["input", *between, OUTPUT]
            if not all(pair in shares for pair in itertools.pairwise(layers)):
                continue
            for units in itertools.product(*(range(len(contributed.units[name])) for name in layers)):
                steps = [
                    float(shares[s, t][j, i])
                    for (s, t), (i, j) in zip(itertools.pairwise(layers), itertools.pairwise(units))
                ]
                if math.prod(steps) > 0:
                    found[tuple(map(Filter, layers[:-1], units[:-1]))] = math.prod(steps)
    return found


blocks = st.floats(-1, 1, width=16)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_first_path_is_the_best_of_all_there_are(data):
    widths = [*data.draw(st.lists(st.integers(1, 3), min_size=2, max_size=4)), 1]
    last = len(widths) - 1
    pairs = {(i, i + 1) for i in range(last)}
    pairs |= {(i, j) for i in range(last) for j in range(i + 2, last + 1) if data.draw(st.booleans())}
    contributed = made(widths, {
        (s, t): [[data.draw(blocks) for _ in range(widths[s])] for _ in range(widths[t])] for s, t in sorted(pairs)
    })  # fmt: skip
    known = every_path(contributed)
    (*best,) = found_in(contributed)
    if known:
        units = (best[0].entry.filter, *best[0].filters)
        assert best[0].product == pytest.approx(max(known.values()))
        assert known[units] == pytest.approx(best[0].product)
    else:
        assert all(path.entry is None for path in best)


def test_shares_are_of_all_that_is_positive():
    contributed = made([1, 3, 1], {(0, 1): [[2], [1], [-1]], (0, 2): [[1]], (1, 2): [[2, -5, 1]]})
    shares = share_out(contributed, 0)
    assert shares["L1", OUTPUT].tolist() == [[0.5, 0, 0.25]]
    assert shares["input", OUTPUT].tolist() == [[0.25]]
    assert shares["input", "L1"].tolist() == [[1], [1], [0]]
    (path,) = found_in(contributed)
    assert [(step.label, step.share) for step in path.steps] == [("L1_0", 0.5)]
    assert (path.entry.label, path.entry.share, path.product) == ("input_0", 1.0, 0.5)
    assert str(path) == "L1_0 > class 0"


def test_later_paths_share_no_filter_in_the_upper_half():
    """Two lower filters, three upper ones: the lower ones are used again, the upper ones are not."""
    contributed = made([1, 2, 3, 1], {(0, 1): [[1], [1]], (1, 2): [[9, 1], [8, 2], [3, 7]], (2, 3): [[5, 4, 1]]})
    found = found_in(contributed, 5)
    assert [[step.label for step in path.steps] for path in found] == [
        ["L1_0", "L2_0"],
        ["L1_0", "L2_1"],
        ["L1_1", "L2_2"],
    ]
    assert [path.product for path in found] == pytest.approx([0.9 * 0.5, 0.8 * 0.4, 0.7 * 0.1])


def test_a_path_below_the_upper_half_is_not_found_twice():
    contributed = made([1, 2, 1, 1], {(0, 1): [[1], [1]], (1, 2): [[1, 1]], (1, 3): [[6, 3]], (2, 3): [[1]]})
    assert [[step.label for step in path.steps] for path in found_in(contributed, 9)] == [["L1_0"], ["L1_1"]]


def test_a_filter_that_answers_with_its_bias_may_begin_a_path():
    contributed = made([1, 1, 2, 1], {(0, 1): [[-1]], (1, 2): [[-1], [1]], (2, 3): [[1, 3]]})
    first, second = found_in(contributed, 2)
    assert first.entry is None
    assert [step.label for step in first.steps] == ["L1_0", "L2_1"]
    assert [step.label for step in second.steps] == ["L2_0"]


def test_without_anything_positive_there_is_no_path():
    assert found_in(made([1, 1, 1], {(0, 1): [[1]], (1, 2): [[-1]]}), 3) == []


def test_paths_of_a_network_are_the_best_of_its_contributions(mixed, mixed_task, draw_scores):
    scores = draw_scores(mixed, 0.9)
    contributed = contributions(mixed, mixed_task, scores)
    found = paths(mixed, mixed_task, scores, 2)
    assert list(found) == [0, 2]
    for label, (first, *_) in found.items():
        assert (first.label, first.name) == (label, mixed_task.label_name(label))
        assert first.product == pytest.approx(math.prod([first.entry.share] + [step.share for step in first.steps]))
        assert all(step.score == scores.units[step.filter.layer][step.filter.index] > 0 for step in first.steps)
        assert [step.label for step in first.steps] == [mixed.label(unit) for unit in first.filters]
        chain = [first.entry, *first.steps]
        shares = share_out(contributed, contributed.classes.index(label))
        targets = [*(step.filter for step in first.steps), Filter(OUTPUT, label)]
        for step, target in zip(chain, targets, strict=True):
            row, column = (contributed.units[f.layer].tolist().index(f.index) for f in (target, step.filter))
            assert step.share == pytest.approx(float(shares[step.filter.layer, target.layer][row, column]), rel=1e-4)


@pytest.mark.parametrize("k", [0, -1])
def test_a_number_of_paths_is_positive(mixed, mixed_task, k):
    with pytest.raises(SettingsError, match=f"Wanted a number of paths of 1 or more, not {k}"):
        paths(mixed, mixed_task, Scores.ones(mixed.scored()), k)


def losses(network: Network, task: Task, scores: Scores, *, seeds: int) -> tuple[float, float]:
    """What the logit of a class loses on its images, against the other classes': without the best chain of the class,
    and without as many other kept filters by chance; the mean over the classes and the seeds.
    """
    by_class = task.by_class()
    rivals = {label: [other for other in by_class if other != label] for label in by_class}

    def margin(kept: Scores, label: int) -> float:
        logits = kept.run(network, task.images[list(by_class[label])])
        return float((logits[:, label] - logits[:, rivals[label]].mean(1)).mean())

    def without(units: list[Filter], label: int) -> float:
        left = scores
        for unit in units:
            left = left.without(unit)
        return margin(scores, label) - margin(left, label)

    dice = torch.Generator().manual_seed(0)
    of_chains, of_others = [], []
    for label, (chain, *_) in paths(network, task, scores, 1).items():
        of_chains.append(without(list(chain.filters), label))
        others = [unit for unit in scores.list_filters() if unit not in chain.filters]
        for _ in range(seeds):
            drawn = torch.randperm(len(others), generator=dice)[: len(chain.filters)].tolist()
            of_others.append(without([others[i] for i in drawn], label))
    return sum(of_chains) / len(of_chains), sum(of_others) / len(of_others)


def test_without_its_chain_a_class_loses_more_than_without_as_many_other_filters(striped, stripes_task):
    chain, others = losses(striped, stripes_task, Scores.ones(striped.scored()), seeds=20)
    assert chain > 2 * max(others, 0.1)


@pytest.mark.parametrize("name", ["shapes:vgg", "shapes:resnet"])
def test_the_same_on_the_bundled_networks_over_some_pairs_of_classes(name):
    model, lost = load_model(name), []
    for pair in ([0, 9], [1, 5], [2, 7], [4, 11], [3, 8], [6, 10]):
        task = Task.shapes(8, classes=pair)
        network = Network.trace(model, task.images)
        layers, goal = network.scored(), Goal(divergence=0.05)
        found = find_subnetwork(
            network, task.images, layers=layers, objective=kl_divergence, goal=goal, settings=SearchSettings()
        )
        lost.append(losses(network, task, found.scores, seeds=20))
    chain, others = (sum(values) / len(values) for values in zip(*lost, strict=True))
    assert chain > 2 * max(others, 0.1)
