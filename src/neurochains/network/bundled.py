"""The networks in the package: a small VGG, ResNet and vision transformer, trained on the shapes data set.

Plain PyTorch, with the module names that torchvision's VGG and ResNet and timm's vision transformers have, so that
everything said about those holds for these, only faster. `training/train_shapes.py` made the weights;
`training/train_sparse.py` those of ``vgg-sparse``, a VGG most of whose kernels are 0, and `training/train_vit.py` those
of ``vit``.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from neurochains.errors import ModelNameError, WeightsError, did_you_mean
from neurochains.network.info import ModelInfo
from neurochains.network.vision_transformer import VisionTransformer
from neurochains.shapes_spec import CLASSES, PREPROCESS

__all__ = ["Bottleneck", "ShapesResNet", "ShapesVGG", "build", "info", "load", "names"]

_VGG_PLAN = (24, "M", 32, 48, "M", 64, 64, "M", 96, 96, "M", 96, "M")
_RESNET_STEM = 24
_RESNET_WIDTHS = (12, 16, 24, 32)
_RESNET_DEPTHS = (2, 2, 2, 2)


class ShapesVGG(nn.Module):
    """Eight 3x3 convolutions with biases and ReLU, five max-pools, two linear layers; no batch norm.

    Input (N, 3, 64, 64), output (N, 16) logits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*_vgg_features(_VGG_PLAN))
        self.classifier = nn.Sequential(nn.Linear(96 * 2 * 2, 64), nn.ReLU(inplace=True), nn.Linear(64, len(CLASSES)))
        for weight in (weight for weight in self.parameters() if weight.ndim > 1):
            nn.init.kaiming_normal_(weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, 16)."""
        return self.classifier(torch.flatten(self.features(images), 1))


def _vgg_features(plan: tuple[int | str, ...]) -> list[nn.Module]:
    modules: list[nn.Module] = []
    channels = 3
    for item in plan:
        if isinstance(item, int):
            modules += [nn.Conv2d(channels, item, 3, padding=1), nn.ReLU(inplace=True)]
            channels = item
        else:
            modules.append(nn.MaxPool2d(2))
    return modules


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution beside a shortcut, which is a projection where the shape changes."""

    expansion = 4

    def __init__(self, channels: int, width: int, *, stride: int) -> None:
        super().__init__()
        out = width * self.expansion
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(channels, out, stride) if stride > 1 or channels != out else None

    def forward(self, maps: Tensor) -> Tensor:
        """Return the block's maps (N, 4 x width, H / stride, W / stride)."""
        shortcut = maps if self.downsample is None else self.downsample(maps)
        out = self.relu(self.bn1(self.conv1(maps)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += shortcut
        return self.relu(out)


def _projection(channels: int, out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))


class ShapesResNet(nn.Module):
    """A 5x5 stem and four stages of two bottleneck blocks, each stage opened by a projection shortcut.

    Input (N, 3, 64, 64), output (N, 16) logits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _RESNET_STEM, 5, stride=2, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(_RESNET_STEM)
        self.relu = nn.ReLU(inplace=True)
        channels = _RESNET_STEM
        for number, (width, depth) in enumerate(zip(_RESNET_WIDTHS, _RESNET_DEPTHS, strict=True), 1):
            self.add_module(f"layer{number}", _stage(channels, width, depth, stride=1 if number == 1 else 2))
            channels = width * Bottleneck.expansion
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, len(CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, 16)."""
        maps = self.relu(self.bn1(self.conv1(images)))
        for number in range(1, len(_RESNET_WIDTHS) + 1):
            maps = self.get_submodule(f"layer{number}")(maps)
        return self.fc(torch.flatten(self.avgpool(maps), 1))


def _stage(channels: int, width: int, depth: int, *, stride: int) -> nn.Sequential:
    first = Bottleneck(channels, width, stride=stride)
    rest = [Bottleneck(width * Bottleneck.expansion, width, stride=1) for _ in range(depth - 1)]
    return nn.Sequential(first, *rest)


_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet": ShapesResNet,
    "vgg": ShapesVGG,
    "vgg-sparse": ShapesVGG,
    "vit": VisionTransformer,
}

_SCRIPTS = {"vgg-sparse": "train_sparse.py", "vit": "train_vit.py"}  # of others than train_shapes.py


def names() -> tuple[str, ...]:
    """Return the names that `load` knows."""
    return tuple(_NETWORKS)


def build(name: str) -> nn.Module:
    """Return a bundled network with random weights, in training mode.

    Raises:
        ModelNameError: no bundled network has this name; lists the nearest.
    """
    _check_name(name)
    return _NETWORKS[name]()


def _check_name(name: str) -> None:
    if name not in _NETWORKS:
        known = ", ".join(_NETWORKS)
        raise ModelNameError(f"No bundled network is called {name!r}; there are {known}. {did_you_mean(name, names())}")


def load(name: str) -> nn.Module:
    """Return a trained bundled network in float32 and eval mode, without gradients.

    Raises:
        ModelNameError: no bundled network has this name; lists the nearest.
        WeightsError: the weights file in the installed package is missing or damaged.
    """
    module = build(name)
    module.load_state_dict(_weights(name))
    return module.eval().requires_grad_(False)


def _weights(name: str) -> dict[str, Tensor]:
    """Return the stored tensors as float32; counters keep their type."""
    resource = files("neurochains.network") / "weights" / f"shapes_{name}.safetensors"
    try:
        stored = load_safetensors(resource.read_bytes())
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"The weights of shapes:{name} in the installed package cannot be read ({error}); reinstall neurochains."
        ) from error
    return {key: value.float() if value.is_floating_point() else value for key, value in stored.items()}


def info(name: str) -> ModelInfo:
    """Return what the zoo says about a bundled network: its input and its class names.

    Raises:
        ModelNameError: no bundled network has this name; lists the nearest.
    """
    _check_name(name)
    return ModelInfo(
        name=f"shapes:{name}",
        preprocess=PREPROCESS,
        class_names=CLASSES,
        synsets=None,
        weights=f"bundled, trained on the shapes data set by training/{_SCRIPTS.get(name, 'train_shapes.py')}",
    )
