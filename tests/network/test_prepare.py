from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from neurochains.errors import ModelError
from neurochains.network.prepare import prepare


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)).eval()


def test_a_plain_module_is_returned_as_it_is():
    model = small()
    assert prepare(model) is model


def compiled(module: nn.Module) -> nn.Module:
    return torch.compile(module, backend="eager")


WRAPPERS = [nn.DataParallel, compiled, lambda model: compiled(nn.DataParallel(model))]


@pytest.mark.parametrize("wrap", WRAPPERS, ids=["DataParallel", "compiled", "both"])
def test_wrappers_are_taken_off(wrap):
    model = small()
    assert prepare(wrap(model)) is model


def test_an_averaged_model_is_its_average():
    averaged = AveragedModel(small())
    assert prepare(averaged) is averaged.module


def test_compiled_parts_are_taken_out_without_touching_the_model():
    model = small()
    plain = model[0]
    model[0] = compiled(plain)
    wrapped = model[0]
    bare = prepare(model)
    assert bare is not model
    assert bare[0] is plain
    assert bare[3] is model[3]
    assert model[0] is wrapped
    assert list(bare.state_dict()) == list(small().state_dict())


def test_a_module_compiled_in_place_runs_plainly_and_stays_compiled():
    model = small()
    model.compile(backend="eager")
    bare = prepare(model)
    assert bare._compiled_call_impl is None
    assert model._compiled_call_impl is not None
    assert bare[0].weight is model[0].weight


def test_a_module_used_twice_stays_one_module():
    shared = nn.Sequential(nn.Linear(4, 4), compiled(nn.ReLU()))
    bare = prepare(nn.Sequential(nn.Sequential(shared), shared))
    assert bare[0][0] is bare[1]
    assert bare[1] is not shared
    assert isinstance(bare[1][1], nn.ReLU)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_copied_to_float32(dtype):
    model = small().to(dtype)
    before = copy.deepcopy(model.state_dict())
    bare = prepare(model)
    assert {tensor.dtype for tensor in bare.parameters()} == {torch.float32}
    torch.testing.assert_close(bare[0].weight, before["0.weight"].float(), rtol=0, atol=0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_float64_stays():
    model = small().double()
    assert prepare(model) is model


class Packed(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 2).to(dtype), requires_grad=False)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_packed_weights_are_refused(dtype):
    with pytest.raises(ModelError, match=r"^1 \(Packed\) is quantised.*load the float32 model"):
        prepare(nn.Sequential(nn.ReLU(), Packed(dtype)))


@pytest.mark.parametrize("package", ["torch.ao.nn.quantized.modules.linear", "bitsandbytes.nn.modules"])
def test_quantised_modules_are_refused(package):
    kind = type("Linear", (nn.Module,), {"__module__": package})
    with pytest.raises(ModelError, match=r"^the model \(Linear\) is quantised"):
        prepare(kind())


def test_whole_numbers_that_are_no_weights_are_fine():
    model = small()
    model.register_buffer("table", torch.arange(4, dtype=torch.int8))
    model.register_parameter("index", nn.Parameter(torch.arange(4), requires_grad=False))
    assert prepare(model) is model


def test_a_model_on_several_devices_is_refused():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta"))
    with pytest.raises(ModelError, match='on device "meta": it has no weights'):
        prepare(model)


@pytest.mark.parametrize("thing", ["resnet18", None, small])
def test_what_is_no_module_is_refused(thing):
    with pytest.raises(ModelError, match=r"must be a torch\.nn\.Module; got (str|NoneType|function)"):
        prepare(thing)
