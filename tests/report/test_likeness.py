"""Where an image parts from its class: against a slow, literal version, and on features made to part."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from neurochains.report.likeness import compare, features, parting_layer, similarities


def literal(own: np.ndarray, several: list[int], image: np.ndarray) -> float:
    total = 0.0
    for feature in range(own.shape[1]):
        spread = math.sqrt(sum((x - own[:, feature].mean()) ** 2 for x in own[:, feature]) / len(own)) or 1.0
        mean = sum(own[row, feature] for row in several) / len(several)
        total += ((image[feature] - mean) / spread) ** 2
    return 1 / (1 + math.sqrt(total / own.shape[1]))


def test_similarity_is_what_the_formula_says():
    dice = np.random.default_rng(0)
    own, image = dice.normal(size=(7, 3)), dice.normal(size=3)
    own[:, 2] = 4.0  # a filter that always answers the same
    rows = {"cat": [0, 1, 2], "dog": [3, 4, 5, 6]}
    found, usual = similarities(own, rows, image)
    for name, several in rows.items():
        assert found[name] == pytest.approx(literal(own, several, image))
        alone = [literal(own, [other for other in several if other != row], own[row]) for row in several]
        assert usual[name] == pytest.approx(tuple(np.quantile(alone, [0.05, 0.95])))


def test_the_mean_of_a_class_is_wholly_similar_and_few_images_have_no_range():
    own = np.array([[0.0, 1.0], [2.0, 3.0]])
    found, usual = similarities(own, {"cat": [0, 1]}, own.mean(0))
    assert found == {"cat": 1.0}
    assert usual == {}


def test_features_are_means_and_maxima_of_rectified_maps(chain):
    images = chain.task.images[:2]
    found = features(chain, images)
    name = next(iter(chain.filters))
    kept = chain.filters[name]
    layer = torch.nn.functional.conv2d(
        images, *(getattr(chain.network.module, chain.network.layer(name).weight),), padding=1
    )
    bias = features(chain, torch.zeros_like(images[:1]))[name][0, : len(kept)]
    assert list(found) == list(chain.filters)
    assert found[name].shape == (2, 2 * len(kept))
    assert (found[name][:, len(kept) :] >= found[name][:, : len(kept)]).all()
    assert (bias >= 0).all()
    assert layer.shape[1] == chain.network.layer(name).units


def parted(values: list[float]) -> tuple:
    """One feature a layer; class A lies around 0, class B around 10; the image at `values`."""
    own = {f"l{i}": np.array([[-1.0], [0.0], [1.0], [9.0], [10.0], [11.0]]) for i in range(len(values))}
    image = {f"l{i}": np.array([value]) for i, value in enumerate(values)}
    labels = [f"L{i}" for i in range(len(values))]
    return compare(labels, own, {"a": [0, 1, 2], "b": [3, 4, 5]}, image, "a").sentences


def test_the_layer_where_an_image_parts_is_named():
    assert parted([0, 0, 10, 10]) == (
        "Up to L1 its maps are like those of a. At L2 they leave the range of its images.",
        "From L2 on they are nearest to those of b.",
    )
    assert parted([0, 0]) == (
        "In all 2 layers its maps stay within the range of the images of a.",
        "In every layer they are nearest to those of a.",
    )
    assert parted([10, 10])[0].startswith("From the first layer, L0, on its maps lie outside")


def test_a_single_layer_below_does_not_count_unless_it_is_the_last():
    assert parting_layer([1, 0, 1, 1], [0.5] * 4) is None
    assert parting_layer([1, 0, 1, 0], [0.5] * 4) == 3
    assert parting_layer([0, 0, 1, 1], [0.5] * 4) == 0


def test_the_class_in_question_is_compared_even_when_there_are_many():
    rows = {f"c{i}": [i] for i in range(9)}
    own = {"l": np.arange(9.0)[:, None]}
    found = compare(["L"], own, rows, {"l": np.array([8.0])}, "c8")
    assert list(found.similarity) == ["c8", "c0", "c1", "c2", "c3"]
    assert found.sentences == ("In every layer they are nearest to those of c8.",)
