"""Scores, gates and taps against forward hooks on the user's own module."""

from __future__ import annotations

import pytest
import torch
from tests.architectures import build, images, traced

from neurochains.edit import ScoredNetwork, tap
from neurochains.errors import DataError, LayerError

# the module behind which each layer's score goes: its batch norm where it has one
SITES = {
    "residual": {"stem.0": "stem.1", "a.0": "a.1", "b": "norm", "c.0": "c.1", "shortcut": "shortcut"},
    "depthwise": {"a.0": "a.1", "depthwise.0": "depthwise.1", "point": "point", "multiplied": "multiplied"},
    "channels last": {"stem": "stem", "depthwise": "depthwise", "up": "up"},
    "flattened": {"features.0": "features.0", "features.3": "features.3", "classifier.0": "classifier.0"},
    "mlp": {"1": "1", "3": "4"},
}


def multiplied(values, axis):
    def hook(module, inputs, output):
        shape = [len(values) if values.ndim == 2 else 1, *[1] * (output.ndim - 1)]
        shape[axis] = values.shape[-1]
        return output * values.view(shape)

    return hook


def hooked(name, scores, network, x):
    """The outputs of the original module whose site modules multiply what they return."""
    model = build(name)
    for layer, values in scores.items():
        site = model.get_submodule(SITES[name][layer])
        site.register_forward_hook(multiplied(values, network.layer(layer).axis))
    return model(x)


@pytest.mark.parametrize("name", SITES)
@pytest.mark.parametrize("samples", [None, 3])
def test_a_score_multiplies_what_leaves_the_batch_norm(name, samples):
    network, x = traced(name), images()
    sizes = {layer: network.layer(layer).units for layer in SITES[name]}
    scores = {
        layer: torch.rand(*(() if samples is None else (samples,)), units).double() for layer, units in sizes.items()
    }
    scored = ScoredNetwork(network, layers=[network.layer(layer) for layer in scores])
    assert torch.allclose(scored(x, scores)[0], hooked(name, scores, network, x), atol=1e-12)
    assert torch.equal(scored(x)[0], build(name)(x))


def test_a_score_of_zero_removes_what_the_filter_says_exactly():
    network, x = traced("residual"), images()
    scores = {"b": torch.ones(8).double()}
    scores["b"][2] = 0.0
    maps = ScoredNetwork(network, taps=["b"])(x, scores)[1]["b"]
    assert not maps[:, 2].any()
    assert maps[:, 3].any()


def test_gates_blend_a_block_with_its_input():
    network, x, model = traced("residual"), images(), build("residual")
    (block,) = [block for block in network.blocks if block.layers == ("a.0", "b")]
    stem = model.stem(x)
    inside = torch.relu(model.norm(model.b(model.a(stem))) + stem)
    gate = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    mixed = gate.view(-1, 1, 1, 1) * inside + (1 - gate.view(-1, 1, 1, 1)) * stem
    wanted = model.head((model.c(mixed) + model.shortcut(mixed)).mean((2, 3)))
    scored = ScoredNetwork(network, blocks=[block])
    assert torch.allclose(scored(x, gates={block.name: gate})[0], wanted, atol=1e-12)
    assert torch.allclose(scored(x)[0], model(x), atol=1e-12)


def test_taps_are_the_maps_before_the_activation():
    network, x, model = traced("residual"), images(), build("residual")
    logits, maps = tap(network, ["stem.0", "shortcut"])(x)
    stem = model.stem[1](model.stem[0](x))
    assert torch.equal(logits, model(x))
    assert list(maps) == ["stem.0", "shortcut"]
    assert torch.equal(maps["stem.0"], stem)
    assert maps["shortcut"].shape == (3, 12, 8, 8)


def test_what_in_place_operations_write_later_does_not_reach_a_tap():
    network, x, model = traced("flattened"), images(), build("flattened")
    assert torch.equal(tap(network, ["features.0"])(x)[1]["features.0"], model.features[0](x))


def test_gradients_of_scores_and_pixels_flow():
    network, x = traced("residual"), images().requires_grad_()
    scores = {"b": torch.ones(8).double().requires_grad_()}
    ScoredNetwork(network)(x, scores)[0].sum().backward()
    assert scores["b"].grad is not None
    assert scores["b"].grad.count_nonzero() > 4
    assert x.grad is not None


def test_wrong_inputs_and_names_are_refused():
    with pytest.raises(DataError, match=r"traced for inputs \(B, 3, 16, 16\); got \(3, 3, 8, 8\)"):
        ScoredNetwork(traced("residual"))(torch.zeros(3, 3, 8, 8))
    with pytest.raises(LayerError, match=r"No layer is called 'stem.9'. Did you mean stem.0"):
        tap(traced("residual"), ["stem.9"])
