"""The bundled networks: small, accurate, and built as their names say."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from neurochains.data import shapes
from neurochains.errors import ModelNameError, WeightsError
from neurochains.network import bundled
from neurochains.network.bundled import Bottleneck, ShapesResNet, ShapesVGG

NAMES = ("resnet", "vgg", "vgg-sparse", "vit")
LEAST = {"vit": 0.95}  # of accuracy; the others 0.97
SCRIPTS = {"vgg-sparse": "train_sparse.py", "vit": "train_vit.py"}
LARGEST_FILE = 2_000_000


@cache
def fresh_images() -> tuple[Tensor, Tensor]:
    """Images of a seed that neither training nor its measurement drew from."""
    drawn = shapes.batch(500, seed=99, split="test")
    return torch.from_numpy(drawn.pixels), torch.from_numpy(drawn.labels)


def count(module: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(part, kind) for part in module.modules())


def filters(module: nn.Module) -> int:
    return sum(part.out_channels for part in module.modules() if isinstance(part, nn.Conv2d))


def test_names() -> None:
    assert bundled.names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_accuracy_on_fresh_images(name: str) -> None:
    pixels, labels = fresh_images()
    predicted = bundled.load(name)(shapes.PREPROCESS.normalise(pixels)).argmax(1)
    assert (predicted == labels).double().mean() >= LEAST.get(name, 0.97) - 0.01 * (name in LEAST)


@pytest.mark.parametrize("name", NAMES)
def test_load_is_in_eval_mode_float32_and_without_gradients(name: str) -> None:
    module = bundled.load(name)
    assert not any(part.training for part in module.modules())
    assert not any(weight.requires_grad for weight in module.parameters())
    assert {weight.dtype for weight in module.parameters()} == {torch.float32}
    assert bundled.load(name) is not module


@pytest.mark.parametrize("name", NAMES)
def test_file_is_small_float16_and_says_where_it_comes_from(name: str) -> None:
    path = files("neurochains.network") / "weights" / f"shapes_{name}.safetensors"
    assert len(path.read_bytes()) <= LARGEST_FILE
    with safe_open(str(path), framework="pt") as stored:
        metadata = stored.metadata()
        kinds = {stored.get_tensor(key).dtype for key in stored.keys()}  # noqa: SIM118
    assert kinds <= {torch.float16, torch.int64}
    assert torch.float16 in kinds
    assert float(metadata["test_accuracy"]) >= LEAST.get(name, 0.97)
    assert int(metadata["test_images"]) >= 2000
    assert metadata["network"] == f"shapes:{name}"
    assert "epochs" in metadata["recipe"]


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_the_files_rounded_numbers(name: str) -> None:
    state = bundled.load(name).state_dict()
    for value in state.values():
        assert torch.isfinite(value).all()
        torch.testing.assert_close(
            value, value.half().to(value.dtype) if value.is_floating_point() else value, rtol=0, atol=0
        )


def test_most_kernels_of_the_sparse_network_are_0_and_its_file_says_how_many() -> None:
    kernels = [part.weight.flatten(2) for part in bundled.load("vgg-sparse").modules() if isinstance(part, nn.Conv2d)]
    dead = torch.cat([(weight == 0).all(-1).flatten() for weight in kernels])
    path = files("neurochains.network") / "weights" / "shapes_vgg-sparse.safetensors"
    with safe_open(str(path), framework="pt") as stored:
        said = float(stored.metadata()["dead_kernels"])
    assert dead.double().mean().item() == pytest.approx(said, abs=1e-4)
    assert said > 0.6


def test_vgg_is_plain() -> None:
    module = bundled.build("vgg")
    assert isinstance(module, ShapesVGG)
    assert count(module, nn.BatchNorm2d) == 0
    assert count(module, nn.Conv2d) == 8
    assert all(part.bias is not None for part in module.modules() if isinstance(part, (nn.Conv2d, nn.Linear)))
    assert 400 <= filters(module) <= 600
    convolutions = [index for index, part in enumerate(module.features) if isinstance(part, nn.Conv2d)]
    assert all(isinstance(module.features[index + 1], nn.ReLU) for index in convolutions)


def test_resnet_has_bottlenecks_and_a_projection_in_each_stage() -> None:
    module = bundled.build("resnet")
    assert isinstance(module, ShapesResNet)
    assert count(module, Bottleneck) == 8
    assert 1000 <= filters(module) <= 1400
    for number in range(1, 5):
        first, second = module.get_submodule(f"layer{number}").children()
        assert isinstance(first.downsample, nn.Sequential)
        assert second.downsample is None
        assert first.downsample[0].kernel_size == (1, 1)


def test_bottleneck_against_its_formula() -> None:
    block = Bottleneck(8, 4, stride=2).eval()
    maps = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    inner = block.bn1(block.conv1(maps)).clamp(min=0)
    inner = block.bn2(block.conv2(inner)).clamp(min=0)
    assert block.downsample is not None
    expected = (block.bn3(block.conv3(inner)) + block.downsample(maps)).clamp(min=0)
    torch.testing.assert_close(block(maps), expected)
    assert block(maps).shape == (2, 16, 3, 3)


@pytest.mark.parametrize("name", NAMES)
def test_info(name: str) -> None:
    info = bundled.info(name)
    assert info.name == f"shapes:{name}"
    assert info.class_names == shapes.CLASSES
    assert info.preprocess == shapes.PREPROCESS
    assert info.synsets is None
    assert SCRIPTS.get(name, "train_shapes.py") in info.weights


@pytest.mark.parametrize("call", [bundled.build, bundled.load, bundled.info])
def test_unknown_name(call) -> None:
    with pytest.raises(
        ModelNameError, match=r"No bundled network is called 'resnt'; there are resnet, vgg.*mean resnet"
    ):
        call("resnt")


def test_damaged_weights(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(bundled, "files", lambda package: tmp_path)
    with pytest.raises(WeightsError, match=r"shapes:vgg.*cannot be read.*reinstall"):
        bundled.load("vgg")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "shapes_vgg.safetensors").write_bytes(b"not tensors")
    with pytest.raises(WeightsError, match="cannot be read"):
        bundled.load("vgg")
