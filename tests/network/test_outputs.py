from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neurochains.errors import ModelError
from neurochains.network.outputs import LogitsOnly, logits_of, output_path

LOGITS = torch.arange(6.0).reshape(2, 3)
FEATURES = torch.zeros(2, 5)
MAP = torch.zeros(2, 4, 7, 7)
Named = namedtuple("Named", ["features", "logits"])


@dataclass
class Answer:
    loss: Tensor | None
    logits: Tensor


@dataclass
class Pooled:
    map: Tensor
    pooled: Tensor


class Holder:
    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


class Output(dict):
    """A mapping that is read like a dataclass, as transformers' outputs are."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


CASES = {
    "a tensor": (LOGITS, "output"),
    "a tuple": ((LOGITS, FEATURES), "output[0]"),
    "a list that starts with a map": ([MAP, LOGITS], "output[1]"),
    "a loss before the logits": ((torch.tensor(1.0), LOGITS), "output[1]"),
    "losses of images before the logits": ((torch.zeros(2), LOGITS), "output[1]"),
    "a dict with logits": ({"features": FEATURES, "logits": LOGITS}, "output['logits']"),
    "a dict with out": ({"aux": FEATURES, "out": LOGITS}, "output['out']"),
    "a dict with main": ({"aux": FEATURES, "main": LOGITS}, "output['main']"),
    "a dict of anything": ({"map": MAP, "scores": LOGITS}, "output['scores']"),
    "a dataclass": (Answer(None, LOGITS), "output.logits"),
    "a dataclass without logits": (Pooled(MAP, LOGITS), "output.pooled"),
    "a named tuple": (Named(FEATURES, LOGITS), "output.logits"),
    "an object with logits": (Holder(LOGITS), "output.logits"),
    "a mapping with attributes": (Output(hidden=FEATURES, logits=LOGITS), "output.logits"),
    "nested": (({"head": {"logits": LOGITS}},), "output[0]['head']['logits']"),
    "logits that are a tuple": ({"aux": FEATURES, "out": (LOGITS, FEATURES)}, "output['out'][0]"),
}


@pytest.mark.parametrize(("output", "path"), CASES.values(), ids=CASES.keys())
def test_logits_are_found(output, path):
    assert torch.equal(logits_of(output), LOGITS)
    assert output_path(output) == path


def test_the_path_leads_to_the_logits():
    for output, path in CASES.values():
        assert eval(path, {"output": output}) is LOGITS


def test_the_number_of_logits_decides_between_features_and_logits():
    output = (FEATURES, LOGITS)
    assert torch.equal(logits_of(output), FEATURES)
    assert torch.equal(logits_of(output, expected=3), LOGITS)
    assert output_path(output, expected=3) == "output[1]"
    assert output_path(output, expected=99) == "output[0]"


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1, 1), (2, 3, 1)])
def test_trailing_ones_go(shape):
    assert torch.equal(logits_of(LOGITS.reshape(shape)), LOGITS)


def test_one_number_an_image_is_one_logit():
    assert logits_of(torch.zeros(4)).shape == (4, 1)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (MAP, r"a Tensor with tensors output \(2, 4, 7, 7\)"),
        ({"boxes": MAP}, r"a dict with tensors output\['boxes'\] \(2, 4, 7, 7\)"),
        (torch.tensor(0.0), r"a Tensor with tensors output \(\)"),
        ((), "a tuple that holds no tensor"),
        (None, "a NoneType that holds no tensor"),
        ("logits", "a str that holds no tensor"),
    ],
)
def test_no_logits_is_an_error_that_says_what_came(output, message):
    with pytest.raises(ModelError, match=message) as error:
        logits_of(output)
    assert "Wrap the model in a module whose forward returns the logits" in str(error.value)


class ManyHeads(nn.Module):
    """Returns a nested output, as detection and distillation models do."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, images: Tensor) -> dict[str, Any]:
        features = self.body(images.flatten(1))
        return {"features": features, "extra": [features], "logits": (self.head(features), None)}


def test_export_sees_a_single_tensor():
    model = LogitsOnly(ManyHeads().eval())
    images = torch.randn(2, 1, 2, 2)
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(model, (images,), dynamic_shapes=shapes, strict=False)
    more = torch.randn(7, 1, 2, 2)
    torch.testing.assert_close(program.module()(more), model.model(more)["logits"][0])


def test_the_wrapped_model_is_not_copied():
    inner = ManyHeads()
    assert LogitsOnly(inner).model is inner
    images = torch.randn(2, 1, 2, 2)
    assert torch.equal(LogitsOnly(inner, expected=5)(images), inner(images)["features"])
