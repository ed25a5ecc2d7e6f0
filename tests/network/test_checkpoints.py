from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from neurochains.errors import WeightsError
from neurochains.network.checkpoints import check_finite, fit_names, load_weights, misshaped, read_weights


def small() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))


def same(left: dict, right: dict) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("ending", [".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".pth.tar"])
def test_what_was_saved_is_read(tmp_path, ending):
    state = small().state_dict()
    path = tmp_path / f"weights{ending}"
    if ending == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    assert same(read_weights(path), dict(state))


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net"])
def test_training_checkpoints_are_unpacked(tmp_path, key):
    state = dict(small().state_dict())
    torch.save({"epoch": 7, key: state, "optimizer": {"state": {}}}, tmp_path / "a.pt")
    assert same(read_weights(tmp_path / "a.pt"), state)


def test_a_pickle_is_read_only_on_trust(tmp_path):
    state = dict(small().state_dict())
    torch.save({"state_dict": state, "args": argparse.Namespace(lr=1)}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"runs code from the file.*trust_pickle=True \(--trust-pickle\)"):
        read_weights(tmp_path / "a.pt")
    assert same(read_weights(tmp_path / "a.pt", trust_pickle=True), state)


class Booby:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_in_a_checkpoint_runs_without_trust(tmp_path):
    torch.save({"state_dict": {}, "trap": Booby(tmp_path / "sprung")}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="trust_pickle"):
        read_weights(tmp_path / "a.pt")
    assert not (tmp_path / "sprung").exists()


def test_a_whole_module_is_read_on_trust(tmp_path):
    model = small()
    torch.save(model, tmp_path / "a.pt")
    assert same(read_weights(tmp_path / "a.pt", trust_pickle=True), dict(model.state_dict()))


def broken_files() -> dict[str, tuple[str, bytes, str]]:
    return {
        "a truncated safetensors file": ("a.safetensors", b"\x40\0\0\0\0\0\0\0{", "not a whole safetensors file"),
        "an empty safetensors file": ("a.safetensors", b"", "not a whole safetensors file"),
        "an empty checkpoint": ("a.pt", b"", "cannot be read as a PyTorch checkpoint"),
        "text": ("a.pt", b"hello", "cannot be read as a PyTorch checkpoint.*Copy or download it again"),
        "half a zip": ("a.pt", b"PK\x03\x04 and then nothing", "cannot be read as a PyTorch checkpoint|it is damaged"),
        "another kind of file": ("a.h5", b"", r"must be a \.safetensors, \.pt.*got a\.h5"),
    }


@pytest.mark.parametrize(("name", "content", "message"), broken_files().values(), ids=broken_files().keys())
def test_broken_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_weights(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"no weights file .*nowhere\.safetensors"):
        read_weights(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize(("content", "held"), [({"epoch": 3}, r"a dict of \['epoch'\]"), ([1, 2], "list")])
def test_a_checkpoint_without_weights_is_refused(tmp_path, content, held):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=f"holds no weights by name; it holds {held}"):
        read_weights(tmp_path / "a.pt")


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net."]
)
def test_the_prefixes_of_wrappers_go(prefix):
    state = dict(small().state_dict())
    assert same(fit_names({prefix + name: tensor for name, tensor in state.items()}, state), state)


def test_prefixes_inside_names_and_averaging_counters_go():
    stored = {"module.0._orig_mod.weight": torch.ones(1), "n_averaged": torch.tensor(2)}
    assert list(fit_names(stored, ["0.weight"])) == ["0.weight"]


def test_a_prefix_stays_where_the_module_has_it_or_not_all_names_do():
    stored = {"model.weight": torch.ones(1), "head.weight": torch.ones(1)}
    assert list(fit_names(stored, ["weight"])) == list(stored)
    own = {"module.weight": torch.ones(1)}
    assert list(fit_names(own, ["module.weight", "module.bias"])) == list(own)


def test_weights_are_copied_and_converted():
    model, other = small(), small()
    state = {name: torch.ones_like(tensor) for name, tensor in other.state_dict().items()}
    state = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    del state["1.num_batches_tracked"]
    load_weights(model, state, source="a.pt", name="small")
    assert all((tensor == 1).all() and tensor.dtype == torch.float32 for tensor in model.parameters())


def test_what_does_not_fit_is_listed_and_nothing_is_changed():
    model = small()
    state = dict(model.state_dict())
    before = {name: tensor.clone() for name, tensor in state.items()}
    state = {**state, "4.extra": torch.zeros(1), "3.weight": torch.zeros(5, 8)}
    del state["0.bias"]
    with pytest.raises(WeightsError) as error:
        load_weights(model, state, source="a.pt", name="my model")
    assert str(error.value).splitlines() == [
        "The weights in a.pt do not fit my model:",
        "  missing (1): 0.bias",
        "  unexpected (1): 4.extra",
        "  of another shape (1): 3.weight wants (2, 8), got (5, 8)",
        "Give the weights of this architecture, or name the architecture that they belong to.",
    ]
    assert same(dict(model.state_dict()), before)


def test_long_lists_are_cut():
    model = nn.Sequential(*[nn.Linear(1, 1) for _ in range(10)])
    with pytest.raises(WeightsError, match=r"missing \(20\): .*3\.bias and 12 more"):
        load_weights(model, {}, source="a.pt", name="deep")


def test_integers_in_place_of_weights_are_refused():
    state = {name: tensor.to(torch.int8) for name, tensor in small().state_dict().items()}
    with pytest.raises(WeightsError, match=r"holds integers where weights belong: 0\.weight"):
        load_weights(small(), state, source="a.pt", name="small")


def test_misshaped_lists_wanted_and_got():
    assert misshaped(small(), {"3.weight": torch.zeros(5, 8), "3.bias": torch.zeros(2), "x": torch.zeros(1)}) == {
        "3.weight": ((2, 8), (5, 8))
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["0.weight", "1.running_var"])
def test_values_that_are_not_finite_are_named(name, value):
    model = small()
    model.state_dict()[name].view(-1)[0] = value
    with pytest.raises(WeightsError, match=f"small has NaN or infinite values in 1 weight tensors: {name}"):
        check_finite(model, name="small")


def test_finite_weights_pass():
    assert check_finite(small()) is None
