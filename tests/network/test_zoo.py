from __future__ import annotations

import importlib.util
import sys
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from neurochains.errors import ModelError, ModelNameError, NeuroChainsError, WeightsError
from neurochains.network.info import attach_info
from neurochains.network.libraries import import_library, import_torchvision
from neurochains.network.sources.hub_models import hub_preprocess
from neurochains.network.sources.timm_models import timm_preprocess
from neurochains.network.zoo import SOURCES, ModelInfo, load_model, model_info
from neurochains.preprocess import IMAGENET, Preprocess

needs_zoo = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torchvision", "timm", "transformers")),
    reason="the zoo's libraries are not installed",
)
SMALL = "timm:test_resnet"


def weights_of(model: nn.Module) -> list[Tensor]:
    return list(model.state_dict().values())


def same(left: nn.Module, right: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights_of(left), weights_of(right), strict=True))


def known(model: nn.Module) -> ModelInfo:
    info = model_info(model)
    assert info is not None
    return info


@pytest.fixture(scope="module")
def hub_folder(tmp_path_factory):
    """A folder as transformers saves it: a tiny image classifier with its image processor."""
    transformers = import_library("transformers")
    folder = tmp_path_factory.mktemp("hub")
    labels = {0: "castle", 1: "stone wall", 2: "dalmatian"}
    settings = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic"}
    config = transformers.ResNetConfig(**settings, id2label=labels, label2id={name: i for i, name in labels.items()})
    model = transformers.ResNetForImageClassification(config)
    torch.nn.init.ones_(model.classifier[1].weight)
    model.save_pretrained(folder)
    processor = transformers.ViTImageProcessor(
        size={"height": 36, "width": 40}, resample=3, image_mean=[0.5] * 3, image_std=[0.25] * 3
    )
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def offline(monkeypatch):
    """Nothing can be downloaded."""

    def refuse(*args, **kwargs):
        raise URLError("Name or service not known")

    monkeypatch.setattr(sys.modules[import_torchvision().__name__ + ".models._api"], "load_state_dict_from_url", refuse)
    monkeypatch.setattr(import_library("timm"), "create_model", refuse)
    monkeypatch.setattr(import_library("transformers").AutoConfig, "from_pretrained", refuse)


# --- libraries


@needs_zoo
@pytest.mark.parametrize("name", ["torchvision:squeezenet1_1", "torchvision:inception_v3", SMALL, "shapes:vgg"])
def test_a_model_is_ready_to_be_looked_at(name):
    state = torch.random.get_rng_state()
    model = load_model(name, pretrained=False)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(module.training for module in model.modules())
    assert not any(tensor.requires_grad for tensor in model.parameters())
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}
    info = known(model)
    assert info.name == name
    assert info.weights == "random"
    preprocess, names = info.preprocess, info.class_names
    assert preprocess is not None
    assert names is not None
    assert model(torch.zeros(1, 3, *preprocess.size)).shape == (1, len(names))


@needs_zoo
@pytest.mark.parametrize("name", ["torchvision:squeezenet1_1", SMALL, "shapes:resnet"])
def test_random_weights_are_the_same_every_time(name):
    first = load_model(name, pretrained=False)
    torch.rand(7)
    assert same(first, load_model(name, pretrained=False))


@needs_zoo
def test_torchvisions_weights_say_how_images_are_prepared():
    one = known(load_model("torchvision:mobilenet_v3_small@IMAGENET1K_V1", pretrained=False))
    assert one.preprocess == IMAGENET
    assert one.class_names is not None
    assert one.class_names[:2] == ("tench", "goldfish")
    assert one.synsets is not None
    assert one.synsets[251] == "n02110341"
    assert one.class_names[251] == "dalmatian"


@needs_zoo
def test_other_weights_have_other_preparation():
    kinds = [
        known(load_model(f"torchvision:mobilenet_v2@IMAGENET1K_V{i}", pretrained=False)).preprocess for i in (1, 2)
    ]
    assert [kind.resize for kind in kinds if kind is not None] == [256, 232]


@needs_zoo
def test_torchvisions_weights_are_taken(monkeypatch):
    models = import_torchvision().models
    stored = models.get_model("squeezenet1_1", weights=None)
    monkeypatch.setattr(models._api, "load_state_dict_from_url", lambda *args, **kwargs: stored.state_dict())
    model = load_model("torchvision:squeezenet1_1")
    assert same(model, stored)
    assert known(model).weights == "torchvision SqueezeNet1_1_Weights.IMAGENET1K_V1"


@needs_zoo
def test_timms_models_say_how_images_are_prepared():
    info = known(load_model("timm:resnet10t.c3_in1k", pretrained=False))
    assert info.preprocess == Preprocess((176, 176), IMAGENET.mean, IMAGENET.std, 201, "bicubic")
    assert info.class_names is not None
    assert info.class_names[251].startswith("dalmatian")
    assert info.synsets is not None
    assert info.synsets[251] == "n02110341"


CONFIG = {
    "input_size": (3, 64, 64),
    "crop_pct": 0.8,
    "crop_mode": "center",
    "mean": (0.1, 0.2, 0.3),
    "std": (1.0, 1.0, 1.0),
    "interpolation": "bicubic",
}


@needs_zoo
@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("fraction", [0.8, 0.95, 1.0])
def test_timms_transform_is_reproduced(mode, fraction):
    from PIL import Image

    config = {**CONFIG, "crop_mode": mode, "crop_pct": fraction}
    transform = import_library("timm").data.create_transform(**config, is_training=False)
    image = Image.effect_noise((90, 70), 60).convert("RGB")
    preprocess = timm_preprocess(config)
    assert preprocess is not None
    torch.testing.assert_close(preprocess.normalise(preprocess.pixels(image)), transform(image), rtol=0, atol=1e-6)


def test_a_transform_that_cannot_be_expressed_is_unknown():
    assert timm_preprocess({**CONFIG, "crop_mode": "border"}) is None
    assert timm_preprocess({**CONFIG, "input_size": (3, 64, 32)}) is None


# --- transformers


@needs_zoo
@pytest.mark.parametrize("pretrained", [True, False])
def test_a_folder_of_transformers_is_a_model(hub_folder, pretrained):
    model = load_model(f"hf:{hub_folder}", pretrained=pretrained)
    info = known(model)
    assert info.class_names == ("castle", "stone wall", "dalmatian")
    assert info.preprocess == Preprocess((36, 40), (0.5,) * 3, (0.25,) * 3, (36, 40), "bicubic")
    assert model(torch.zeros(2, 3, 36, 40)).logits.shape == (2, 3)
    stored = import_library("transformers").AutoModelForImageClassification.from_pretrained(hub_folder)
    assert same(model, stored) == pretrained


@needs_zoo
def test_a_backbone_without_classifier_is_refused(hub_folder, tmp_path):
    transformers = import_library("transformers")
    transformers.AutoModelForImageClassification.from_pretrained(hub_folder).base_model.save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"has no weights for classifier.*not a trained classifier"):
        load_model(f"hf:{tmp_path}")


@needs_zoo
def test_a_model_that_is_no_image_classifier_is_refused(tmp_path):
    import_library("transformers").BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is a bert model, not an image classifier"):
        load_model(f"hf:{tmp_path}", pretrained=False)


@needs_zoo
def test_without_the_network_the_hub_is_not_asked():
    with pytest.raises(ModelError, match=r"known to the hub only, and pretrained=False uses no network"):
        load_model("hf:nobody/nothing", pretrained=False)


PROCESSOR = {
    "do_resize": True,
    "size": {"shortest_edge": 256},
    "resample": 2,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": list(IMAGENET.mean),
    "image_std": list(IMAGENET.std),
}


@pytest.mark.parametrize(
    ("change", "size", "resize"),
    [
        ({}, (224, 224), 256),
        ({"do_center_crop": False}, (256, 256), 256),
        ({"size": {"height": 30, "width": 40}, "do_center_crop": False}, (30, 40), (30, 40)),
        ({"size": {"height": 300, "width": 400}}, (224, 224), (300, 400)),
        ({"size": {"shortest_edge": 224}, "do_center_crop": None, "crop_pct": 0.875}, (224, 224), 256),
        ({"size": {"shortest_edge": 384}, "do_center_crop": None, "crop_pct": 0.875}, (384, 384), (384, 384)),
    ],
)
def test_the_geometry_of_an_image_processor(change, size, resize):
    preprocess = hub_preprocess({**PROCESSOR, **change})
    assert preprocess is not None
    assert (preprocess.size, preprocess.resize) == (size, resize)


@pytest.mark.parametrize(
    "change",
    [{"do_resize": False}, {"do_flip_channel_order": True}, {"size": {"longest_edge": 300}}, {"resample": 5}],
)
def test_an_image_processor_that_cannot_be_expressed_is_unknown(change):
    assert hub_preprocess({**PROCESSOR, **change}) is None


@pytest.mark.parametrize(
    ("change", "low", "high"),
    [
        ({"image_mean": [0.0] * 3, "image_std": [0.5] * 3}, 0.0, 2.0),
        ({"do_normalize": False}, 0.0, 1.0),
        ({"do_normalize": False, "rescale_factor": 1 / 127.5, "rescale_offset": True}, -1.0, 1.0),
        ({"do_normalize": False, "do_rescale": False}, 0.0, 255.0),
    ],
)
def test_the_range_of_an_image_processor(change, low, high):
    preprocess = hub_preprocess({**PROCESSOR, **change})
    assert preprocess is not None
    black_and_white = torch.tensor([0, 255], dtype=torch.uint8).expand(3, 1, 2)
    wanted = torch.tensor([low, high]).expand(3, 1, 2)
    torch.testing.assert_close(preprocess.normalise(black_and_white), wanted, rtol=1e-6, atol=1e-6)


# --- names and downloads


@needs_zoo
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet50", "Did you mean torchvision:resnet50"),
        ("shapes", "Did you mean shapes:"),
        ("xyz", "A name is torchvision:NAME"),
        ("torchvision:resnet51", r"No model is called torchvision:resnet51\. Did you mean resnet"),
        ("torchvision:qqqq", "It knows .*, among them alexnet"),
        (
            "torchvision:resnet50@IMAGENET1K_V9",
            "no weights IMAGENET1K_V9 for resnet50; it has IMAGENET1K_V1, IMAGENET1K",
        ),
        ("timm:resnett18", "Did you mean resnet18"),
        ("timm:resnet18.nobody", r"no weights nobody for resnet18; it has .*a1_in1k"),
        ("shapes:vg", "Did you mean vgg"),
        ("nowhere.py:make", r"There is no file nowhere\.py"),
        ("nowhere.py", "does not say which function builds the model"),
    ],
)
def test_a_name_that_means_nothing(name, message):
    with pytest.raises(ModelNameError, match=message):
        load_model(name, pretrained=False)


@needs_zoo
@pytest.mark.parametrize("name", ["torchvision:squeezenet1_1", SMALL, "hf:owner/name"])
def test_a_failed_download_offers_what_to_do(name, offline):
    with pytest.raises(
        ModelError, match=r"could not be downloaded or read \(URLError.*--weights FILE.*pretrained=False"
    ):
        load_model(name)


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet18", "hf:owner/name"])
def test_a_missing_library_says_how_to_install_it(name, monkeypatch):
    library = {"hf": "transformers"}.get(name.partition(":")[0], name.partition(":")[0])
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModelError, match=rf"needs {library}.*pip install 'neurochains\[zoo\]'"):
        load_model(name)


def test_the_prefixes_are_pinned():
    assert list(SOURCES) == ["hf", "shapes", "timm", "torchvision"]


# --- weights from a file


@needs_zoo
def test_weights_of_ones_own(tmp_path):
    stored = load_model(SMALL, pretrained=False)
    with torch.no_grad():
        for tensor in stored.parameters():
            tensor.mul_(0.5)
    save_file(
        {f"module.{name}": tensor.half() for name, tensor in stored.state_dict().items()}, tmp_path / "a.safetensors"
    )
    model = load_model(SMALL, weights=tmp_path / "a.safetensors")
    for mine, theirs in zip(model.parameters(), stored.parameters(), strict=True):
        assert mine.dtype == torch.float32
        assert torch.equal(mine, theirs.half().float())
    assert known(model).weights == f"file {tmp_path / 'a.safetensors'}"
    assert known(model).class_names is not None


@needs_zoo
@pytest.mark.parametrize("name", [SMALL, "torchvision:squeezenet1_1"])
def test_a_head_of_another_size_is_built(name, tmp_path):
    library, _, spec = name.partition(":")
    build = import_torchvision().models.get_model if library == "torchvision" else import_library("timm").create_model
    stored = build(spec, num_classes=7)
    torch.save({"state_dict": stored.state_dict()}, tmp_path / "a.pt")
    model = load_model(name, weights=tmp_path / "a.pt")
    assert same(model, stored)
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 7)
    assert known(model).class_names is known(model).synsets is None
    assert known(model).preprocess is not None


@needs_zoo
def test_a_head_of_another_size_is_built_in_transformers(hub_folder, tmp_path):
    transformers = import_library("transformers")
    config = transformers.AutoConfig.from_pretrained(hub_folder, num_labels=5)
    stored = transformers.AutoModelForImageClassification.from_config(config)
    save_file(stored.state_dict(), tmp_path / "a.safetensors")
    model = load_model(f"hf:{hub_folder}", weights=tmp_path / "a.safetensors")
    assert same(model, stored)
    assert known(model).class_names is None


@needs_zoo
def test_weights_of_another_architecture_are_listed(tmp_path):
    save_file(load_model("shapes:vgg", pretrained=False).state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(
        WeightsError, match=rf"(?s)do not fit {SMALL}:.*missing \(\d+\): conv1.*unexpected \(\d+\): class"
    ):
        load_model(SMALL, weights=tmp_path / "a.safetensors")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    state = load_model("shapes:vgg", pretrained=False).state_dict()
    state["features.0.bias"][0] = float("nan")
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(
        WeightsError, match=r"shapes:vgg has NaN or infinite values in 1 weight tensors: features\.0\.bias"
    ):
        load_model("shapes:vgg", weights=tmp_path / "a.safetensors")


# --- a file of one's own

OWN = """
from __future__ import annotations
from dataclasses import dataclass
import torch
from torch import nn
from own_parts import WIDTH
from neurochains.preprocess import Preprocess

preprocess = Preprocess(size=(8, 8), mean=(0.5,), std=(0.5,))
other = Preprocess(size=(9, 9), mean=(0.5,), std=(0.5,))
class_names = ["cat", "dog"]

@dataclass
class Settings:
    width: int = WIDTH

def make():
    return nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, Settings().width))

def half():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).half()

def prepared():
    return make(), other

def broken():
    raise KeyError("no such layer")

def wrong():
    return 3

def strange():
    return make(), "resize"
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own_parts.py").write_text("WIDTH = 2\n")
    (tmp_path / "own.py").write_text(OWN)
    yield tmp_path / "own.py"
    sys.modules.pop("own_parts", None)


def test_a_function_in_a_file_builds_the_model(own):
    path = list(sys.path)
    model = load_model(f"{own}:make")
    assert sys.path == path
    info = known(model)
    assert (info.name, info.weights) == (f"{own}:make", "as own.py:make made them")
    assert info.class_names == ("cat", "dog")
    assert info.preprocess == Preprocess((8, 8), (0.5,), (0.5,))
    assert not model.training
    assert same(model, load_model(f"{own}:make"))


def test_a_function_may_return_its_preparation(own):
    assert known(load_model(f"{own}:prepared")).preprocess == Preprocess((9, 9), (0.5,), (0.5,))


def test_half_precision_is_made_single(own):
    assert load_model(f"{own}:half")[1].weight.dtype == torch.float32


def test_own_weights_for_ones_own_model(own, tmp_path):
    stored = load_model(f"{own}:make")
    save_file({name: tensor + 1 for name, tensor in stored.state_dict().items()}, tmp_path / "a.safetensors")
    model = load_model(f"{own}:make", weights=tmp_path / "a.safetensors")
    assert torch.equal(model[2].weight, stored[2].weight + 1)


def test_a_head_of_another_size_is_an_error_for_ones_own_model(own, tmp_path):
    save_file({"2.weight": torch.zeros(5, 64), "2.bias": torch.zeros(5)}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"of another shape \(2\): 2\.weight wants \(2, 64\), got \(5, 64\)"):
        load_model(f"{own}:make", weights=tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("factory", "kind", "message"),
    [
        ("mak", ModelNameError, r"own\.py has no function mak\. Did you mean make\?"),
        ("class_names", ModelNameError, "has no function class_names"),
        ("broken", ModelError, r"own\.py, line 27, raised KeyError: 'no such layer' while it built the model"),
        ("wrong", ModelError, r"must return a torch\.nn\.Module, or \(module, Preprocess\); got int"),
        ("strange", ModelError, r"must be a Preprocess; got str"),
    ],
)
def test_a_file_that_does_not_build_a_model(own, factory, kind, message):
    with pytest.raises(kind, match=message):
        load_model(f"{own}:{factory}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "import no_such_library",
            "line 1, raised ModuleNotFoundError: No module named 'no_such_library' while it was im",
        ),
        ("x = 1\n1 / 0", "line 2, raised ZeroDivisionError"),
        ("def make(:", "line 1, raised SyntaxError"),
        ("from torch import nn\nclass_names = 'cats'\nmake = nn.ReLU", r"class_names of .* must be a list of strings"),
        ("from torch import nn\nclass_names = [1, 2]\nmake = nn.ReLU", r"class_names of .* must be a list of strings"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path, source, message):
    (tmp_path / "own.py").write_text(source)
    with pytest.raises(ModelError, match=message):
        load_model(f"{tmp_path / 'own.py'}:make")


# --- info


def test_a_model_of_ones_own_has_no_info():
    assert model_info(nn.Linear(2, 2)) is None


def test_info_is_read_back_and_survives_copies(tmp_path):
    import copy

    info = ModelInfo("mine", IMAGENET, ("a", "b"))
    model = attach_info(nn.Linear(2, 2), info)
    assert model_info(model) is info
    assert model_info(copy.deepcopy(model)) == info
    assert list(model.state_dict()) == ["weight", "bias"]


def test_every_error_is_one_of_ours():
    with pytest.raises(NeuroChainsError):
        load_model("")
