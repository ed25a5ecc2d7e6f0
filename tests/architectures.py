"""Small networks, one for each thing that makes compaction hard; all map ``(B, 3, 16, 16)`` to ``(B, 5)``."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurochains.network import Network

SHAPE = (3, 16, 16)
ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {}


def architecture(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    name = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in make.__name__).strip()
    ARCHITECTURES[name] = make
    return make


def cbr(inputs: int, outputs: int, kernel: int = 3, **options) -> nn.Sequential:
    options = {"padding": kernel // 2, **options}
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, bias=False, **options), nn.BatchNorm2d(outputs), nn.ReLU())


class Pooled(nn.Module):
    """A body followed by global pooling and a linear head."""

    def __init__(self, width: int, **parts: nn.Module):
        super().__init__()
        self.head = nn.Linear(width, 5)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))

    def body(self, x):
        raise NotImplementedError


@architecture
class Residual(Pooled):
    def __init__(self):
        super().__init__(12, stem=cbr(3, 8), a=cbr(8, 8), b=nn.Conv2d(8, 8, 3, padding=1), c=cbr(8, 12, stride=2))
        self.norm, self.shortcut = nn.BatchNorm2d(8), nn.Conv2d(8, 12, 1, stride=2)

    def body(self, x):
        x = F.relu(self.stem(x), inplace=True)
        y = self.norm(self.b(self.a(x)))
        y += x
        x = F.relu_(y)
        return self.c(x) + self.shortcut(x)


@architecture
class PaddedShortcut(Pooled):
    def __init__(self):
        super().__init__(10, stem=cbr(3, 6), a=nn.Conv2d(6, 10, 3, stride=2, padding=1), b=cbr(10, 10))

    def body(self, x):
        x = self.stem(x)
        x = F.relu(self.a(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)))
        return F.relu(self.b(x) + x)


@architecture
class Dense(Pooled):
    def __init__(self):
        super().__init__(14, stem=nn.Conv2d(3, 6, 3, padding=1))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in (6, 10))
        self.convs = nn.ModuleList(nn.Conv2d(width, 4, 3, padding=1) for width in (6, 10))

    def body(self, x):
        x = self.stem(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = torch.cat([x, conv(F.relu(norm(x)))], 1)
        return F.avg_pool2d(x, 2)


@architecture
class Grouped(Pooled):
    def __init__(self):
        super().__init__(12, a=cbr(3, 8), b=cbr(8, 12, groups=2), c=cbr(12, 12, groups=4), d=cbr(12, 12, 1))
        self.bias = nn.Conv2d(12, 24, 3, groups=4)
        self.last = nn.Conv2d(24, 12, 1, groups=2)

    def body(self, x):
        x = self.b(self.a(x))
        return self.last(F.relu(self.bias(self.d(x + self.c(x)))))


@architecture
class Depthwise(Pooled):
    def __init__(self):
        super().__init__(9, a=cbr(3, 8), depthwise=cbr(8, 8, groups=8, stride=2), point=nn.Conv2d(8, 6, 1))
        self.multiplied = nn.Conv2d(6, 12, 3, padding=1, groups=6)
        self.last = nn.Conv2d(12, 9, 1)

    def body(self, x):
        x = F.hardswish(self.point(self.depthwise(self.a(x))))
        return self.last(F.relu6(self.multiplied(x)))


@architecture
class Dilated(Pooled):
    def __init__(self):
        super().__init__(6, a=nn.Conv2d(3, 8, 3, padding="same", dilation=2), b=nn.Conv2d(8, 8, (3, 1), padding=(1, 0)))
        self.c = nn.Conv2d(8, 6, 5, padding="same")

    def body(self, x):
        return self.c(torch.tanh(self.b(F.softplus(self.a(x)))))


@architecture
class Shuffled(Pooled):
    def __init__(self):
        super().__init__(8, stem=cbr(3, 8), a=cbr(4, 4), b=cbr(8, 8, groups=4))

    def body(self, x):
        left, right = self.stem(x).chunk(2, 1)
        x = self.shuffle(torch.cat([left, self.a(right)], 1), 2)
        return self.shuffle(self.b(x), 4)

    def shuffle(self, x, groups):
        count, channels, height, width = x.shape
        x = x.view(count, groups, channels // groups, height, width).transpose(1, 2).contiguous()
        return x.view(count, -1, height, width)


@architecture
class Squeezed(Pooled):
    def __init__(self):
        super().__init__(8, a=cbr(3, 8), b=cbr(8, 8), reduce=nn.Conv2d(8, 3, 1), expand=nn.Conv2d(3, 8, 1))
        self.linears = nn.Sequential(nn.Linear(8, 3), nn.ReLU(), nn.Linear(3, 8), nn.Hardsigmoid())

    def body(self, x):
        x = self.a(x)
        x = x * torch.sigmoid(self.expand(F.relu(self.reduce(F.adaptive_avg_pool2d(x, 1)))))
        x = self.b(x)
        return x * self.linears(x.mean((2, 3)))[:, :, None, None]


@architecture
class EfficientChannelAttention(Pooled):
    def __init__(self):
        super().__init__(8, a=cbr(3, 8), b=cbr(8, 8), weigh=nn.Conv1d(1, 1, 3, padding=1))

    def body(self, x):
        x = self.a(x)
        weights = self.weigh(x.mean((2, 3)).unsqueeze(1)).view(x.shape[0], -1, 1, 1)
        return self.b(x * torch.sigmoid(weights).expand_as(x))


@architecture
class Flattened(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(6, 4, 3))
        self.classifier = nn.Sequential(nn.Linear(100, 7), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(7, 5))

    def forward(self, x):
        return self.classifier(torch.flatten(torch.relu_(self.features(x)), 1))


@architecture
class ChannelsLast(Pooled):
    def __init__(self):
        super().__init__(8, stem=nn.Conv2d(3, 8, 4, stride=4), depthwise=nn.Conv2d(8, 8, 3, padding=1, groups=8))
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.scale = nn.Parameter(torch.rand(8, 1, 1) + 0.5)

    def body(self, x):
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.down(F.gelu(self.up(y))).permute(0, 3, 1, 2)
        return x + self.scale * y


@architecture
class Gated(Pooled):
    def __init__(self):
        super().__init__(6, a=nn.Conv2d(3, 12, 3, padding=1), b=nn.Conv2d(6, 6, 3, padding=1), c=cbr(6, 9, 1))
        self.d = nn.Conv2d(3, 6, 1)

    def body(self, x):
        value, gate = self.a(x).split(6, dim=1)
        x = self.c(self.b(value * torch.sigmoid(gate)))
        one, two, three = x.split([3, 4, 2], 1)
        return self.d(one) * two.mean(1, keepdim=True) + three.amax(1, keepdim=True)


@architecture
class Constants(Pooled):
    """Removed channels are not 0 behind the activations, and meet padding of every kind."""

    def __init__(self):
        super().__init__(5, a=nn.Conv2d(3, 6, 3), b=nn.Conv2d(6, 6, 3, padding=1), c=nn.Conv2d(6, 6, 2, bias=False))
        self.norms = nn.ModuleList(nn.BatchNorm2d(6) for _ in range(3))
        self.grouped, self.last = nn.Conv2d(6, 6, 3, groups=3, padding=1), nn.Conv2d(6, 5, 1)
        self.shift = nn.Parameter(torch.rand(1, 6, 1, 1))

    def body(self, x):
        x = self.norms[0](torch.sigmoid(self.a(x)))
        x = F.avg_pool2d(torch.atan(self.b(x)) + torch.exp(self.b(x)), 3, padding=1)
        x = F.avg_pool2d(self.norms[1](F.elu(x) - 0.5), 2, padding=1, count_include_pad=False)
        x = F.pad(self.shift + x, (1, 0, 1, 0)).sum(3, keepdim=True).expand(-1, -1, -1, 4)
        x = F.max_pool2d(self.norms[2](torch.sigmoid(self.c(x))), 2, stride=1)
        return self.last(F.pad(torch.sigmoid(self.grouped(x)), (1, 1), value=1.0))


@architecture
class SpatialAttention(Pooled):
    def __init__(self):
        super().__init__(6, a=cbr(3, 6), b=cbr(6, 6), attend=nn.Conv2d(2, 1, 3, padding=1))

    def body(self, x):
        x = self.a(x)
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return self.b(x * torch.sigmoid(self.attend(summary)) + self.attend(summary))


@architecture
class Reused(Pooled):
    def __init__(self):
        super().__init__(6, stem=nn.Conv2d(3, 6, 1), shared=cbr(6, 6))
        self.weight, self.bias = nn.Parameter(torch.randn(6, 6, 3, 3) * 0.2), nn.Parameter(torch.rand(6))

    def body(self, x):
        x = self.shared(self.shared(self.stem(x)))
        return F.relu(F.conv2d(x, self.weight, self.bias, padding=1)) + F.conv2d(x, self.weight)[..., :1, :1]


class StandardisedConv(nn.Conv2d):
    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


@architecture
class Standardised(Pooled):
    def __init__(self):
        super().__init__(6, a=StandardisedConv(3, 8, 3), b=StandardisedConv(8, 6, 3, padding=1))
        self.norm = nn.GroupNorm(2, 8)

    def body(self, x):
        return self.b(F.silu(self.norm(self.a(x))))


@architecture
class Slopes(Pooled):
    def __init__(self):
        super().__init__(
            6, a=cbr(3, 6), b=nn.Conv2d(6, 6, 3), c=nn.Conv2d(6, 6, 3), slopes=nn.PReLU(6), slope=nn.PReLU()
        )

    def body(self, x):
        x = self.slopes(self.a(x) - 0.5)
        return torch.maximum(self.slope(self.b(x)), self.c(x)) / (2 + torch.minimum(self.b(x), self.c(x)).abs())


@architecture
class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches, self.attend = nn.Conv2d(3, 8, 4, stride=4), nn.MultiheadAttention(8, 2)
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 17, 8))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)
        self.mlp = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        y = self.norm(x).transpose(0, 1)  # the batch is the second axis
        x = x + self.attend(y, y, y, need_weights=False)[0].transpose(0, 1)
        x = x + self.mlp(self.norm(x))
        return self.head(x[:, 0])


@architecture
class TokensFirst(nn.Module):
    """Removed channels are made real while the batch is the second axis."""

    def __init__(self):
        super().__init__()
        self.patches, self.mix, self.head = nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 6), nn.Linear(6, 5)
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        x = self.norm(self.patches(x).flatten(2).permute(2, 0, 1))
        return self.head(torch.roll(F.relu(self.mix(x)), 3, 0).mean(0))


@architecture
class Pyramid(Pooled):
    def __init__(self):
        super().__init__(7, a=cbr(3, 4), b=cbr(4, 6, stride=2), c=cbr(6, 3, stride=2), lift=nn.Conv2d(3, 6, 1))

    def body(self, x):
        a = self.a(x)
        b = self.b(a)
        c = self.c(b)
        b = b + F.interpolate(self.lift(c), scale_factor=2, mode="nearest")
        c = F.interpolate(c, size=a.shape[2:], mode="bilinear")
        return torch.cat([a, c], 1) + b.mean(1, keepdim=True).repeat(1, 1, 2, 2)


@architecture
class PixelShuffled(Pooled):
    def __init__(self):
        super().__init__(4, a=cbr(3, 8, 4, stride=4, padding=0), b=cbr(2, 4), c=cbr(16, 4, 1))

    def body(self, x):
        x = self.b(F.pixel_shuffle(self.a(x), 2))
        return self.c(F.pixel_unshuffle(x, 2))


@architecture
class OneKernelEach(Pooled):
    """The batch is folded into the channels: each image is convolved with weights of its own."""

    def __init__(self):
        super().__init__(6, a=cbr(3, 4), route=nn.Linear(4, 2), b=cbr(6, 6))
        self.experts = nn.Parameter(torch.randn(2, 6 * 4 * 9) * 0.2)

    def body(self, x):
        x = self.a(x)
        weight = torch.sigmoid(self.route(x.mean((2, 3)))) @ self.experts
        y = F.conv2d(x.reshape(1, -1, 16, 16), weight.view(-1, 4, 3, 3), padding=1, groups=x.shape[0])
        return self.b(y.view(x.shape[0], 6, 16, 16))


@architecture
class WrittenViews(Pooled):
    """In-place operations on parts of tensors, and on the input."""

    def __init__(self):
        super().__init__(6, a=nn.Conv2d(3, 6, 3), b=nn.Conv2d(6, 6, 1))

    def body(self, x):
        x = self.a(x)
        x[:, :2] += 0.5
        x[:, 2:4].mul_(2.0)
        return self.b(x.relu_())


@architecture
class Windows(Pooled):
    def __init__(self):
        super().__init__(6, a=nn.Conv2d(3, 6, 4, stride=4), mix=nn.Linear(6, 6), merge=nn.Linear(24, 6))

    def body(self, x):
        x = self.a(x).permute(0, 2, 3, 1)
        windows = x.view(-1, 2, 2, 2, 2, 6).transpose(2, 3).reshape(-1, 4, 6)
        windows = torch.sigmoid(self.mix(windows)) + windows
        x = windows.view(-1, 2, 2, 2, 2, 6).transpose(2, 3).reshape(-1, 4, 4, 6)
        x = torch.cat([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], -1)
        return self.merge(F.relu(x)).permute(0, 3, 1, 2)


@architecture
class Blurred(Pooled):
    def __init__(self):
        super().__init__(6, a=cbr(3, 6), b=cbr(6, 6))
        self.register_buffer("blur", torch.tensor([[1.0, 2.0, 1.0]]).T @ torch.tensor([[1.0, 2.0, 1.0]]) / 16)

    def body(self, x):
        x = F.pad(self.a(x), (1, 1, 1, 1), mode="reflect")
        return self.b(F.conv2d(x, self.blur.expand(6, 1, 3, 3), stride=2, groups=6))


@architecture
def mlp() -> nn.Module:
    layers = (nn.Linear(768, 10), nn.ReLU(), nn.Linear(10, 8), nn.BatchNorm1d(8), nn.Sigmoid(), nn.Linear(8, 5))
    return nn.Sequential(nn.Flatten(), *layers)


@architecture
def indices() -> nn.Module:
    class Indices(Pooled):
        def __init__(self):
            super().__init__(8, a=cbr(3, 6), b=cbr(6, 6, 1))
            self.register_buffer("order", torch.tensor([5, 0, 3, 3]))

        def body(self, x):
            x = torch.index_select(self.a(x), 1, self.order)
            x = torch.cat([x, x.flip(1)[:, 1:3]], 1)
            y = torch.stack([self.b(x), x], 1).sum(1)
            return F.adaptive_max_pool2d(torch.cat([y, y.narrow(1, 1, 2)], 1), 4)

    return Indices()


def build(name: str) -> nn.Module:
    """Return an architecture in float64 with seeded weights and shifted statistics, in eval mode."""
    torch.manual_seed(0)
    model = ARCHITECTURES[name]().double().eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            for tensor in (module.running_mean, module.weight, module.bias):
                nn.init.normal_(tensor.data, std=0.5)
    return model.requires_grad_(False)


def images(count: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(count, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@functools.lru_cache
def traced(name: str) -> Network:
    return Network.trace(build(name), images(1))
