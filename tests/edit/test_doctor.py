"""What the doctor says about models whose anatomy is known."""

from __future__ import annotations

import json

import pytest
import torch
from tests.architectures import ARCHITECTURES, build, images
from torch import nn

from neurochains.edit import examine
from neurochains.errors import ModelError


def diagnosis(name, **options):
    return examine(build(name), images(), **options)


def test_everything_is_counted():
    found = diagnosis("residual")
    assert (found.model, found.input_shape, found.output, found.outputs) == ("Residual", (3, 16, 16), "output", 5)
    assert (found.filters, found.hidden) == (8 + 8 + 8 + 12 + 12, 0)
    assert found.kernels == 3 * 8 + 8 * 8 + 8 * 8 + 8 * 12 + 8 * 12
    assert [block.layers for block in found.blocks] == [("a.0", "b")]
    assert found.traced.relative < 1e-12
    assert found.compacted is not None
    assert 0 < found.compacted.relative < 1e-12
    assert found.warnings == ()
    layer = found.layers[3]
    assert (layer.name, layer.label, layer.kind, layer.role) == ("c.0", "L3", "conv", "filter")
    assert (layer.units, layer.inputs, layer.groups, layer.kernel, layer.stride) == (12, 8, 1, (3, 3), (2, 2))
    assert (layer.map_size, layer.receptive_field) == ((8, 8), (9, 9))


def test_it_is_plain_data_and_lines():
    found = diagnosis("spatial attention")
    assert json.loads(json.dumps(found.to_json()))["layers"][0]["name"] == "a.0"
    lines = dict(found.lines())
    assert lines["outputs"] == "5 in output"
    assert lines["layers"] == "5 (4 filter, 1 head)"
    assert lines["without a rule"] == "nothing"
    assert "of the logit range" in lines["compact against scored"]


def test_operations_without_a_rule_are_listed():
    assert diagnosis("constants").without_rule == {"aten.atan.default": 1}
    assert "aten.atan.default (1)" in dict(diagnosis("constants").lines())["without a rule"]


def test_compaction_can_be_left_out():
    found = diagnosis("residual", compaction=False)
    assert found.compacted is None
    assert "compact against scored" not in dict(found.lines())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("reused", "Reused modules, each call a layer of its own: shared.0, weight"),
        ("squeezed", "4 layers only rescale channels"),
        ("mlp", "No convolution: the hidden units"),
    ],
)
def test_warnings_say_what_to_know(name, words):
    assert any(words in warning for warning in diagnosis(name).warnings)


def test_a_model_without_units_is_no_failure():
    found = examine(nn.Sequential(nn.Flatten(), nn.Linear(768, 5)).eval(), torch.randn(2, 3, 16, 16))
    assert found.compacted is None
    assert any("No layer makes units" in warning for warning in found.warnings)


def test_an_output_without_a_single_head_is_told():
    found = examine(nn.Sequential(ARCHITECTURES["residual"]().stem, nn.Flatten()).eval(), torch.randn(2, 3, 16, 16))
    assert any("No single layer makes the outputs" in warning for warning in found.warnings)


def test_where_the_logits_are_is_told():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = build("residual")

        def forward(self, x):
            return {"features": self.inner.stem(x), "logits": self.inner(x)}

    assert examine(Wrapped().eval(), images()).output == "output['logits']"


def test_a_model_in_training_mode_is_refused():
    with pytest.raises(ModelError, match="training mode"):
        examine(build("residual").train(), images())


def test_a_transformer_is_described():
    from tests.transformers import SHAPE, make

    found = examine(make("timm vit with registers"), torch.randn(2, *SHAPE))
    seen = found.transformer
    assert (seen.attentions, seen.fused, seen.heads, seen.special) == (3, 3, (3, 3, 3), 3)
    assert (seen.grid, seen.blocks, seen.reason) == ((4, 4), 3, "")
    assert found.compacted.relative < 1e-4
    lines = dict(found.lines())
    assert lines["attention"] == "3 (3 fused), 3 heads each"
    assert lines["tokens"] == "3 special and 4 x 4 patches, read in 3 blocks"
    assert found.to_json()["transformer"]["grid"] == (4, 4)


def test_attention_without_patches_says_why():
    from tests.network.test_transformer_roles import Windowed

    found = examine(Windowed().eval(), torch.randn(2, 3, 16, 16))
    assert found.transformer.grid is None
    assert "no row of tokens" in dict(found.lines())["tokens"]
    assert "1 written out" in dict(found.lines())["attention"]


def test_without_attention_nothing_is_said_of_it():
    found = examine(build("residual"), images(2))
    assert found.transformer is None
    assert "attention" not in dict(found.lines())
