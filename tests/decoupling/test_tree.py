from __future__ import annotations

import pytest
import torch
from torch import Tensor

from neurochains.decoupling import Paths, decision_tree
from neurochains.errors import DataError, LayerError, SettingsError

NAMES = ("cat", "dog", "cup", "pot")
LABELS = torch.arange(160) % 4


def layer(groups: Tensor, dice: torch.Generator) -> Tensor:
    """Codes of 24 bits: a prototype for each group, with a few bits flipped."""
    prototypes = torch.rand(int(groups.max()) + 1, 24, generator=dice) < 0.5
    return prototypes[groups] ^ (torch.rand(len(groups), 24, generator=dice) < 0.05)


def planted() -> Paths:
    """All alike in the first layer, animals apart in the second, all classes apart in the third, noise at last."""
    dice = torch.Generator().manual_seed(0)
    codes = {"first": torch.ones(160, 8, dtype=torch.bool), "second": layer(LABELS // 2, dice)}
    codes |= {"third": layer(LABELS, dice), "fourth": torch.rand(160, 16, generator=dice) < 0.5}
    return Paths(codes, LABELS, NAMES)


def test_the_planted_decisions_are_found_at_their_layers():
    tree = decision_tree(planted())
    assert tree.root.layer == "second"
    assert [child.layer for child in tree.root.children] == ["third", "third"]
    assert sorted(next(iter(tree.counts(leaf))) for leaf in tree.leaves) == sorted(NAMES)
    assert tree.purity() == 1.0
    assert (tree.parting(0, 2), tree.parting(0, 1), tree.parting(1, 1)) == ("second", "third", None)


def test_every_node_parts_its_images_and_tells_its_tests():
    tree = decision_tree(planted())
    for _, node in tree.root.walk():
        if node.children:
            both = torch.cat([child.images for child in node.children]).sort().values
            assert torch.equal(both, node.images.sort().values)
            assert node.layer is not None
            assert node.tests[node.layer].holds()
            assert sum(test.holds() for test in node.tests.values()) == 1
    assert list(tree.root.tests) == ["first", "second"]


def test_a_tree_may_begin_further_up():
    tree = decision_tree(planted(), start="third")
    assert (tree.root.layer, list(tree.root.tests)) == ("third", ["third"])
    assert [leaf.layer for leaf in tree.leaves] == [None, None]  # what comes above is noise


def test_few_images_are_not_parted_further():
    tree = decision_tree(planted(), smallest=50)
    assert [len(leaf.images) for leaf in tree.leaves] == [80, 80]


def test_odd_images_are_no_branch():
    codes = torch.zeros(60, 12, dtype=torch.bool)
    codes[:3] = True
    codes ^= torch.rand(60, 12, generator=torch.Generator().manual_seed(0)) < 0.05
    assert decision_tree(Paths({"a": codes})).root.layer is None


def test_a_tree_as_json():
    found = decision_tree(planted()).to_json()
    assert found["classes"] == dict.fromkeys(NAMES, 40)
    assert found["tests"]["first"] == {"hopkins": 0.5, "p": 1.0}
    assert [len(part["parts"]) for part in found["parts"]] == [2, 2]


def test_without_classes_there_is_a_tree_but_no_purity():
    tree = decision_tree(Paths(planted().codes))
    assert tree.to_json()["classes"] == {}
    with pytest.raises(DataError, match="labelled images"):
        tree.purity()


def test_bad_input():
    with pytest.raises(SettingsError, match=r"smallest is 2 or more, and least from \.5 to 1; got 1 and 0\.55"):
        decision_tree(planted(), smallest=1)
    with pytest.raises(LayerError, match=r"No controlled layer is called 'thrid'\. Did you mean third"):
        decision_tree(planted(), start="thrid")
    with pytest.raises(DataError, match="No image is of class 9"):
        decision_tree(planted()).parting(0, 9)
