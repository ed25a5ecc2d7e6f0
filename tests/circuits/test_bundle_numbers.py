from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurochains.circuits.bundle_document import BundleLayer
from neurochains.circuits.bundle_numbers import Spans, pack, unpack


def layer(name: str, units: int, inputs: int, groups: int = 1) -> BundleLayer:
    return BundleLayer(name, name, "conv", "filter", units, inputs, groups, (4, 4), (3, 3), (1, 1), True, None)


SPANS = Spans([layer("a", 2, 3), layer("b", 4, 2, groups=2)])


def test_vectors_are_cut_into_layers_and_joined_again():
    assert (SPANS.filters, SPANS.kernels) == (6, 10)
    filters = SPANS.filters_of(np.arange(6))
    assert {name: part.tolist() for name, part in filters.items()} == {"a": [0, 1], "b": [2, 3, 4, 5]}
    kernels = SPANS.kernels_of(np.arange(10))
    assert kernels["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert kernels["b"].tolist() == [[6], [7], [8], [9]]
    assert SPANS.joined(kernels, kernels=True).tolist() == list(range(10))
    assert SPANS.joined({"b": filters["b"]}, kernels=False).tolist() == [0, 0, 2, 3, 4, 5]


@given(st.lists(st.floats(-1e30, 1e30), min_size=10, max_size=10), st.floats(1e-30, 1))
@settings(max_examples=200, deadline=None)
def test_packing_keeps_what_it_promises(values, scale):
    flat = np.array(values) * scale
    back = unpack(pack(flat, SPANS), SPANS)
    for part, found in zip(SPANS.kernels_of(flat).values(), SPANS.kernels_of(back).values()):
        largest = abs(part).max()
        if largest > 1e-36:  # float32 has nothing smaller to scale with
            assert (abs(found - part) <= 6e-4 * abs(part) + 4e-8 * largest).all()


def test_a_layer_of_zeros_stays():
    assert not unpack(pack(np.zeros(10), SPANS), SPANS).any()


@pytest.mark.parametrize("kernels", [True, False])
def test_the_size_of_a_set_is_foreseen(bundle, kernels):
    from neurochains.circuits.bundle_files import set_file

    size = bundle.folder.size(set_file(0))
    pictures = bundle.folder.read(set_file(0), {"pictures": ("U8", (None,))})["pictures"].size
    foreseen = bundle.spans.bytes_of_a_set(len(bundle.sets[0].images), 9, kernels=True)
    assert abs(size - pictures - foreseen) < 2048
    packed = 2 * bundle.spans.kernels + 4 * len(bundle.spans.layers)
    assert foreseen - bundle.spans.bytes_of_a_set(5, 9, kernels=False) == packed
