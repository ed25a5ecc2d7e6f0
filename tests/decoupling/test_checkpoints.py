from __future__ import annotations

import pytest
import torch

from neurochains.decoupling.checkpoints import read_checkpoint, write_checkpoint
from neurochains.errors import ArtifactError


def test_nested_values_come_back(tmp_path):
    values = {
        "epoch": 3,
        "states": [{0: {"momentum": torch.randn(2, 3)}, 1: {}}],
        "pair": (1, None, True, 0.5, "text"),
        "shared": torch.arange(4)[::2],
    }
    write_checkpoint(tmp_path / "deep" / "a.checkpoint", values)
    again = read_checkpoint(tmp_path / "deep" / "a.checkpoint")
    assert torch.equal(again["states"][0][0]["momentum"], values["states"][0][0]["momentum"])
    assert again["shared"].tolist() == [0, 2]
    assert again["pair"] == values["pair"]
    assert list(again["states"][0]) == [0, 1]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.checkpoint"]


def test_messages(tmp_path):
    with pytest.raises(ArtifactError, match="holds tensors and plain values; got a set"):
        write_checkpoint(tmp_path / "a", {"a": {1}})
    with pytest.raises(ArtifactError, match="is missing or damaged"):
        read_checkpoint(tmp_path / "none")
    (tmp_path / "b").write_bytes(b"no checkpoint at all")
    with pytest.raises(ArtifactError, match="is missing or damaged"):
        read_checkpoint(tmp_path / "b")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "c")
    with pytest.raises(ArtifactError, match="is no checkpoint of a training"):
        read_checkpoint(tmp_path / "c")
