from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from neurochains.errors import DataError, LayerError, SettingsError
from neurochains.pictures import Visualisation, visualise
from neurochains.pictures.visualise import COLOR_AXES, _falloff, _paint, _transform

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "imagenet-700.zip"
HALF = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
SIZE = (16, 16)


def gabor(angle: float, *, size: int = 16, channels: int = 3) -> Tensor:
    """A smooth wave under a window, of unit norm and without mean."""
    grid = torch.linspace(-1, 1, size)
    y, x = grid[:, None], grid[None]
    wave = torch.cos(math.pi * (x * math.cos(angle) + y * math.sin(angle))) * torch.exp(-2 * (x**2 + y**2))
    wave = wave - wave.mean()
    kernel = (wave / wave.norm()).expand(channels, size, size)
    return kernel / math.sqrt(channels)


@pytest.fixture(scope="module")
def filters() -> nn.Conv2d:
    """Four filters as large as the picture, so that the best picture is known in closed form."""
    conv = nn.Conv2d(3, 4, 16, bias=False)
    conv.weight.data = torch.stack([gabor(angle) for angle in (0.0, 0.8, 1.6, 2.4)])
    return conv.requires_grad_(False)


def best_of(kernel: Tensor) -> float:
    """The largest response to pixels in [0, 1], normalised to [-1, 1]: every pixel at the end its weight wants."""
    return float(kernel.abs().sum())


def test_the_picture_is_nearly_the_best_one(filters: nn.Conv2d) -> None:
    found = visualise(filters, range(4), SIZE, steps=60, rate=0.2, **HALF)
    assert found.images.shape == (4, 3, 16, 16)
    assert found.images.dtype == torch.uint8
    assert found.steps == 60
    pixels = found.images.float().flatten(1) - 127.5
    kernels = filters.weight.flatten(1)
    similarity = torch.nn.functional.cosine_similarity(pixels[:, None], kernels[None], dim=2)
    assert torch.equal(similarity.argmax(1), torch.arange(4))
    assert similarity.diagonal().min() > 0.65
    for unit in range(4):
        assert found.reached[unit] > 0.85 * best_of(filters.weight[unit])


def test_reached_and_peak_are_of_the_stored_picture(filters: nn.Conv2d) -> None:
    conv = nn.Conv2d(3, 2, 5).requires_grad_(False)
    found = visualise(conv, [1, 0], SIZE, steps=8, **HALF)
    maps = conv(found.images.float() / 127.5 - 1)
    own = torch.stack([maps[0, 1], maps[1, 0]])
    torch.testing.assert_close(found.reached, own.mean((1, 2)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.peak, own.amax((1, 2)), rtol=1e-4, atol=1e-5)


def test_negative_pictures_go_the_other_way(filters: nn.Conv2d) -> None:
    found = visualise(filters, [2], SIZE, steps=60, rate=0.2, negative=True, **HALF)
    assert found.reached[0] < -0.85 * best_of(filters.weight[2])
    assert found.peak[0] == found.reached[0]
    assert found.gained.all()


def test_the_centre_objective_climbs_the_centre() -> None:
    conv = nn.Conv2d(3, 1, 3, padding=1, bias=False).requires_grad_(False)
    found = visualise(conv, [0], SIZE, steps=40, objective="centre", **HALF)
    maps = conv(found.images.float() / 127.5 - 1)[0, 0]
    assert found.reached[0] == pytest.approx(float(maps[8, 8]), rel=1e-4)
    assert maps[8, 8] > 2 * maps.mean()


def test_one_seed_one_picture_whatever_the_company(filters: nn.Conv2d) -> None:
    together = visualise(filters, [0, 1, 2], SIZE, steps=10, seed=3, **HALF)
    again = visualise(filters, [0, 1, 2], SIZE, steps=10, seed=3, **HALF)
    alone = visualise(filters, [1], SIZE, steps=10, seed=3, **HALF)
    chunked = visualise(filters, [0, 1, 2], SIZE, steps=10, seed=3, batch=2, **HALF)
    assert torch.equal(together.images, again.images)
    assert torch.equal(together.reached, again.reached)
    for other in (alone.images[0], chunked.images[1]):
        assert (together.images[1].int() - other.int()).abs().max() <= 1
    assert not torch.equal(visualise(filters, [1], SIZE, steps=10, seed=4, **HALF).images, alone.images)


def test_grey_networks_get_grey_pictures() -> None:
    conv = nn.Conv2d(1, 1, 16, bias=False)
    conv.weight.data = gabor(0.4, channels=1)[None]
    found = visualise(conv.requires_grad_(False), [0], SIZE, mean=(0.5,), std=(0.5,), steps=40, rate=0.2)
    assert found.images.shape == (1, 1, 16, 16)
    assert found.reached[0] > 0.8 * best_of(conv.weight)


def test_linear_layers_and_oblong_pictures() -> None:
    weight = torch.randn(2, 3 * 12 * 20, generator=torch.Generator().manual_seed(0))
    found = visualise(lambda x: x.flatten(1) @ weight.T, [0, 1], (12, 20), steps=12, **HALF)
    assert found.images.shape == (2, 3, 12, 20)
    assert found.gained.all()


def test_a_filter_silent_after_its_activation_is_still_found(filters: nn.Conv2d) -> None:
    """The maps are those before the activation, so a bias that silences the filter does no harm."""
    found = visualise(lambda x: filters(x) - 100, [0], SIZE, steps=40, rate=0.2, **HALF)
    assert found.gained.all()
    assert found.reached[0] > 0.8 * best_of(filters.weight[0]) - 100


class Waking:
    """A layer whose first unit is dead for a number of calls, and then wakes up."""

    def __init__(self, conv: nn.Module, calls: int) -> None:
        self.conv, self.left, self.sizes = conv, calls, []

    def __call__(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        self.left -= 1
        self.sizes.append(len(images))
        return torch.cat([maps[:, :1] * float(self.left < 0), maps[:, 1:]], 1)


def test_dead_units_are_tried_again_and_the_others_are_not(filters: nn.Conv2d) -> None:
    layer = Waking(filters, calls=10)
    found = visualise(layer, [0, 1], SIZE, steps=8, **HALF)
    assert found.gained.tolist() == [True, True]
    assert layer.sizes == [2] * 10 + [1] * 10
    alone = visualise(filters, [1], SIZE, steps=8, **HALF)
    assert (found.images[1].int() - alone.images[0].int()).abs().max() <= 1


def test_each_attempt_starts_elsewhere(filters: nn.Conv2d) -> None:
    starts = []

    def watch(images: Tensor) -> Tensor:
        starts.append(images.detach().clone())
        return 0 * filters(images)

    visualise(watch, [0], SIZE, steps=1, attempts=3, **HALF)
    first = starts[::3]
    assert len(first) == 3
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[1], first[2])


def test_units_that_stay_dead_are_reported(filters: nn.Conv2d) -> None:
    layer = Waking(filters, calls=1000)
    found = visualise(layer, [0], SIZE, steps=2, attempts=3, **HALF)
    assert found.gained.tolist() == [False]
    assert found.reached.tolist() == [0.0]
    assert len(layer.sizes) == 3 * 4


def test_model_and_random_state_stay_as_they_are() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    visualise(model, [0], SIZE, steps=3, **HALF)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_it_works_where_gradients_are_switched_off(filters: nn.Conv2d) -> None:
    with torch.no_grad():
        assert visualise(filters, [0], SIZE, steps=2, **HALF).gained.all()


def test_the_start_has_natural_contrast_at_every_size() -> None:
    for size in ((64, 64), (48, 96), (33, 20)):
        spectrum = torch.randn(40, 1, size[0], size[1] // 2 + 1, 2)
        waves = torch.logit(_paint(spectrum, size)) / 2.78
        assert float(waves.var()) == pytest.approx(1.0, abs=0.35)
        assert _falloff(size).shape == (size[0], size[1] // 2 + 1)


def test_transforms_are_small_and_the_same_for_all() -> None:
    ramp = torch.linspace(0, 1, 64).expand(2, 3, 64, 64)
    moved = [_transform(ramp, torch.Generator().manual_seed(seed)) for seed in range(20)]
    assert all(torch.equal(one[0], one[1]) for one in moved)
    centres = torch.stack([one[0, 0, 28:36, 28:36].mean() for one in moved])
    assert (centres - 0.5).abs().max() < 1 / 16 + 0.01
    assert centres.std() > 0.01
    constant = torch.full((1, 3, 20, 33), 0.3)
    torch.testing.assert_close(_transform(constant, torch.Generator().manual_seed(0)), constant)


def centre_of(blob: Tensor) -> np.ndarray:
    y, x = torch.meshgrid(torch.arange(blob.shape[0]), torch.arange(blob.shape[1]), indexing="ij")
    return np.array([float((blob * x).sum() / blob.sum()), float((blob * y).sum() / blob.sum())])


def test_transforms_turn_and_scale_without_shear_in_oblong_pictures() -> None:
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(140.0), indexing="ij")
    places = ((70, 30), (100, 30), (70, 45))  # the middle, 30 to the right, 15 below
    blobs = torch.stack([torch.exp(-((x - a) ** 2 + (y - b) ** 2) / 8) for a, b in places])[None]
    angles, scales = [], []
    for seed in range(25):
        middle, right, below = (centre_of(blob) for blob in _transform(blobs, torch.Generator().manual_seed(seed))[0])
        across, down = (right - middle) / 30, (below - middle) / 15
        assert across @ down == pytest.approx(0, abs=0.01)
        assert np.linalg.norm(across) == pytest.approx(np.linalg.norm(down), abs=0.01)
        angles.append(math.degrees(math.atan2(across[1], across[0])))
        scales.append(float(np.linalg.norm(across)))
    assert 6 < max(np.abs(angles)) < 10.3
    assert 0.895 < min(scales) < 0.95
    assert 1.05 < max(scales) < 1.105


@pytest.mark.skipif(not PHOTOS.exists(), reason="needs the shared photographs: ../shared/data/imagenet-700.zip")
def test_the_color_axes_are_those_of_photographs() -> None:
    dice, pixels = np.random.default_rng(0), []
    with zipfile.ZipFile(PHOTOS) as archive:
        for name in [name for name in archive.namelist() if name.endswith(".jpg")][::5]:
            image = np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")).reshape(-1, 3) / 255
            pixels.append(image[dice.integers(0, len(image), 500)])
    share = np.clip(np.concatenate(pixels), 1 / 64, 63 / 64)
    covariance = np.cov(np.log(share / (1 - share)).T)
    axes = np.array(COLOR_AXES)
    np.testing.assert_allclose(axes.T @ axes, covariance, rtol=0.12)
    products = axes @ axes.T
    assert np.abs(products - np.diag(np.diag(products))).max() < 0.1


def run(**options: object) -> Visualisation:
    conv = nn.Conv2d(3, 4, 3).requires_grad_(False)
    settings = {"maps_of": conv, "units": [0], "size": SIZE, "steps": 2, **HALF, **options}
    return visualise(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": []}, "at least one unit"),
        ({"units": [-1]}, r"counted from 0, got \[-1\]"),
        ({"mean": (0.5, 0.5), "std": (1, 1)}, "mean and std of 1 or 3 channels"),
        ({"std": (0.5, 0.5, 0.0)}, "std above 0"),
        ({"steps": 0}, "steps, attempts and batch of at least 1"),
        ({"size": (2, 16)}, "at least 4 x 4"),
        ({"objective": "logit"}, "'channel' or 'centre', got 'logit'"),
    ],
)
def test_options_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        run(**options)


def test_layers_that_cannot_be_climbed_are_named() -> None:
    with pytest.raises(LayerError, match="no unit 9: the layer has 4"):
        run(units=[0, 9])
    with pytest.raises(DataError, match="have no gradient with respect to the images"):
        run(maps_of=lambda x: x.detach())
    with pytest.raises(DataError, match="not finite"):
        run(maps_of=lambda x: x / 0)
    with pytest.raises(DataError, match=r"expected maps \(B, units, h, w\) for 1 images, got \(1, 4, 3\)"):
        run(maps_of=lambda x: torch.zeros(1, 4, 3))
