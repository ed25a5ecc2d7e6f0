from __future__ import annotations

import pytest
from torch import nn

from neurochains.cli.models import ModelChoice, load_run
from neurochains.errors import SettingsError
from neurochains.network.info import ModelInfo, attach_info
from neurochains.preprocess import IMAGENET, Preprocess

UNKNOWN = nn.Identity()


def known(preprocess: Preprocess = IMAGENET) -> nn.Module:
    return attach_info(nn.Identity(), ModelInfo("own", preprocess))


def test_the_model_knows_how_its_images_are_prepared():
    assert ModelChoice("m").preprocess(known()) is not None
    assert ModelChoice("m").preprocess(known()) == IMAGENET


def test_another_input_size_keeps_the_share_that_is_cropped():
    changed = ModelChoice("m", input_size="112").preprocess(known())
    assert (changed.size, changed.resize, changed.mean) == ((112, 112), 128, IMAGENET.mean)
    squashed = Preprocess((64, 64), (0.5,), (0.5,), resize=(64, 64))
    assert ModelChoice("m", input_size="32x48").preprocess(known(squashed)).resize == (32, 48)
    plain = Preprocess((64, 64), (0.5,), (0.5,))
    assert ModelChoice("m", input_size="32").preprocess(known(plain)).resize is None


def test_the_command_line_overrides_mean_and_std():
    changed = ModelChoice("m", mean=[0.1, 0.2, 0.3], std=[1, 1, 1]).preprocess(known())
    assert (changed.mean, changed.std, changed.size) == ((0.1, 0.2, 0.3), (1, 1, 1), (224, 224))


def test_an_unknown_pre_processing_is_given_whole():
    whole = ModelChoice("m", input_size="28", mean=[0.5], std=[0.25]).preprocess(UNKNOWN)
    assert whole == Preprocess((28, 28), (0.5,), (0.25,))
    with pytest.raises(
        SettingsError, match=r"m does not say how its images are prepared\. Give --input-size, --mean and"
    ):
        ModelChoice("m", input_size="28").preprocess(UNKNOWN)


def test_an_example_has_the_shape_of_the_input():
    assert ModelChoice("m").example(known()).shape == (2, 3, 224, 224)
    assert ModelChoice("m", input_size="1x28x30").example(UNKNOWN).shape == (2, 1, 28, 30)
    assert ModelChoice("m", input_size="32").example(UNKNOWN).shape == (2, 3, 32, 32)


def test_a_run_is_loaded_with_the_model_it_names(saved):
    assert load_run(saved, model=None, weights=None, trust_pickle=False).network.info.name == "shapes:vgg"


def test_weights_of_a_run_need_a_model(saved, tmp_path):
    with pytest.raises(SettingsError, match="--weights and --trust-pickle say nothing without --model"):
        load_run(saved, model=None, weights=tmp_path / "w.safetensors", trust_pickle=False)
