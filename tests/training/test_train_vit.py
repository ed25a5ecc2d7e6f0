"""The script that trains vision transformers: its parts, and a whole run on very few images."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from neurochains.network.vision_transformer import VisionTransformer


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "training"))
    yield importlib.import_module("train_vit")
    for name in ("train_vit", "train_shapes"):
        sys.modules.pop(name, None)


def test_norms_of_the_stem_fold_away(script):
    torch.manual_seed(0)
    model = VisionTransformer(side=16, patch=4, width=24, heads=3, hidden=32, depth=1, classes=5)
    plain = set(model.state_dict())
    model.patch_embed = script._with_norms(model.patch_embed)
    images = torch.randn(8, 3, 16, 16)
    for part in model.patch_embed:
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(part.weight)
            torch.nn.init.normal_(part.bias)
    for _ in range(3):
        model(images)
    with torch.no_grad():
        wanted = model.eval()(images)
        model.patch_embed = script._without_norms(model.patch_embed)
        assert torch.allclose(model(images), wanted, atol=1e-5)
    assert set(model.state_dict()) == plain


def test_other_patches_are_dropped_in_each_image(script):
    torch.manual_seed(0)
    tokens = torch.arange(17.0).expand(4, -1)[..., None]
    seen = {script._thinned(tokens, 0.5).shape[1] for _ in range(200)}
    assert seen == set(range(9, 18))
    thinned = next(part for part in iter(lambda: script._thinned(tokens, 0.5), None) if part.shape[1] < 14)
    assert bool((thinned[:, 0] == 0).all())
    assert len({tuple(row.flatten().tolist()) for row in thinned}) == 4
    assert all(len(set(row.flatten().tolist())) == thinned.shape[1] for row in thinned)


def test_images_are_moved_apart_and_by_no_more_than_four(script):
    torch.manual_seed(0)
    images = torch.zeros(200, 1, 16, 16).expand(-1, 3, -1, -1).clone()
    images[:, :, 8, 8] = 1
    places = script._moved(images)[:, 0].flatten(1).argmax(1)
    rows, columns = places // 16, places % 16
    assert (set(rows.tolist()), set(columns.tolist())) == (set(range(4, 13)), set(range(4, 13)))


def test_a_run_writes_weights_that_the_network_takes(script, tmp_path, monkeypatch, capsys):
    line = "train_vit.py shapes --images 64 --test-images 32 --epochs 2 --threads 1 --device cpu --out"
    monkeypatch.setattr(sys, "argv", [*line.split(), str(tmp_path), "--cache", str(tmp_path)])
    kept = script._keep
    monkeypatch.setattr(script, "_keep", lambda *given: (kept(*given), (_ for _ in ()).throw(KeyboardInterrupt)))
    with pytest.raises(KeyboardInterrupt):
        script.main()
    monkeypatch.setattr(script, "_keep", kept)
    script.main()
    said = capsys.readouterr().out
    assert "goes on after epoch 1" in said
    assert said.count("epoch 2: loss") == 1
    path = tmp_path / "shapes_vit.safetensors"
    VisionTransformer().load_state_dict(load_file(path))
    with safe_open(str(path), framework="pt") as stored:
        metadata = stored.metadata()
    assert metadata["network"] == "shapes:vit"
    assert "2 epochs of 64 images" in metadata["recipe"]
    assert not list(tmp_path.glob("*checkpoint*"))
