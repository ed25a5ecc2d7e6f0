from __future__ import annotations

import subprocess
import sys

import pytest

import neurochains

HEAVY = {"torch", "numpy", "PIL", "matplotlib", "torchvision", "timm", "transformers", "rich", "jinja2", "onnx"}


def test_the_public_names_are_pinned():
    assert neurochains.__all__ == [
        "Bundle",
        "Chain",
        "Circuit",
        "Decoupled",
        "Network",
        "NeuroChainsError",
        "Preprocess",
        "Task",
        "attribution",
        "circuit",
        "circuits_by_size",
        "compare",
        "decouple",
        "detect",
        "explore",
        "extract",
        "hierarchical_group_sparsity",
        "importance",
        "layer_subfeatures",
        "load_chain",
        "load_circuit",
        "load_decoupled",
        "load_model",
        "planted",
        "planted_names",
        "prepare",
        "query",
        "read_study",
        "run_study",
        "subfeatures",
        "train_decoupled",
    ]
    assert neurochains.__all__ == sorted(neurochains.__all__)


@pytest.mark.parametrize("name", neurochains.__all__)
def test_every_public_name_loads_and_is_documented(name):
    value = getattr(neurochains, name)
    assert value.__name__ == name
    assert value.__doc__
    assert name in dir(neurochains)


def test_importing_loads_nothing_heavy():
    code = "import sys, neurochains; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "neurochains" in loaded
    assert not HEAVY & set(loaded)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'neurochains' has no attribute 'Chian'"):
        _ = neurochains.Chian


def test_the_version_is_the_packages():
    from importlib.metadata import version

    assert neurochains.__version__ == version("neurochains")
