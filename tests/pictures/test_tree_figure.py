from __future__ import annotations

import pytest
from matplotlib.patches import Rectangle

from neurochains.errors import DataError
from neurochains.pictures import tree_figure


def node(images: int, classes: dict[str, int], layers: str, *parts: dict) -> dict:
    tests = {layer: {"hopkins": 0.6, "p": 0.01} for layer in layers}
    return {
        "images": images,
        "classes": classes,
        "layer": layers[-1] if parts else None,
        "tests": tests,
        "parts": parts,
    }


TREE = node(
    40,
    {"cat": 20, "cup": 20},
    "ab",
    node(20, {"cat": 20}, "cd"),
    node(20, {"cup": 20}, "c", node(12, {"cup": 12}, "d"), node(8, {"cup": 8}, "")),
)


def test_every_node_has_its_number_and_every_end_its_classes():
    page = tree_figure(TREE, title="Decisions").axes[0]
    words = [text.get_text() for text in page.texts]
    assert sorted(word for word in words if word.isdigit()) == ["12", "20", "20", "40", "8"]
    assert words.count("cup 100%") == 2
    assert "Decisions" in words


def test_only_layers_that_part_images_are_named_in_order():
    page = tree_figure(TREE).axes[0]
    named = [(text.get_position()[0], text.get_text()) for text in page.texts if text.get_text() in "abcd"]
    assert [name for _, name in sorted(named) if name] == ["b", "c"]


def test_the_bar_of_a_node_shows_its_shares():
    page = tree_figure(TREE).axes[0]
    widths = [patch.get_width() for patch in page.patches if isinstance(patch, Rectangle)]
    whole, cats, cups = widths[-3:]  # the root is drawn last
    assert cats == cups == pytest.approx(whole / 2)


def test_a_tree_without_partings_or_classes():
    page = tree_figure(node(5, {}, "ab")).axes[0]
    assert "5" in [text.get_text() for text in page.texts]


def test_bad_input():
    with pytest.raises(DataError, match="at least one image"):
        tree_figure(node(0, {}, ""))
