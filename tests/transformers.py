"""Small vision transformers of every make; all map ``(B, 3, 16, 16)`` to ``(B, 5)``."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from neurochains.network import Network
from neurochains.network.libraries import import_library
from neurochains.network.vision_transformer import VisionTransformer

SHAPE = (3, 16, 16)
TIMM = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 3, "num_heads": 3, "num_classes": 5}
TRANSFORMERS: dict[str, Callable[[], nn.Module]] = {}


def transformer(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    TRANSFORMERS[make.__name__.replace("_", " ")] = make
    return make


def library(name: str, module: str) -> Any:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    import_library(name)
    return importlib.import_module(module)


def timm_model(module: str, kind: str, **options: Any) -> nn.Module:
    return getattr(library("timm", f"timm.models.{module}"), kind)(**{**TIMM, **options})


@transformer
def bundled() -> nn.Module:
    return VisionTransformer(side=16, patch=4, width=24, heads=3, hidden=32, depth=3, classes=5)


@transformer
def timm_vit_with_registers() -> nn.Module:
    return timm_model("vision_transformer", "VisionTransformer", reg_tokens=2, init_values=0.5, qkv_bias=True)


@transformer
def timm_vit_averaged() -> nn.Module:
    return timm_model("vision_transformer", "VisionTransformer", class_token=False, global_pool="avg")


@transformer
def timm_vit_parallel() -> nn.Module:
    block = library("timm", "timm.models.vision_transformer").ParallelThingsBlock
    return timm_model("vision_transformer", "VisionTransformer", block_fn=block)


@transformer
def timm_vit_attention_pool() -> nn.Module:
    return timm_model("vision_transformer", "VisionTransformer", class_token=False, global_pool="map")


@transformer
def timm_deit_distilled() -> nn.Module:
    return timm_model("deit", "VisionTransformerDistilled")


@transformer
def timm_beit() -> nn.Module:
    return timm_model("beit", "Beit", use_abs_pos_emb=False, use_rel_pos_bias=True, init_values=0.5)


@transformer
def timm_eva() -> nn.Module:
    return timm_model("eva", "Eva", use_rot_pos_emb=True, swiglu_mlp=True, scale_mlp=True, embed_dim=48)


@transformer
def timm_cait() -> nn.Module:
    return timm_model("cait", "Cait", init_values=0.5)


@transformer
def torchvision_vit() -> nn.Module:
    vision = library("torchvision", "torchvision.models.vision_transformer")
    return vision.VisionTransformer(16, 4, 3, 3, 24, 48, num_classes=5)


@transformer
def hugging_face_vit() -> nn.Module:
    hub = library("transformers", "transformers")
    return hub.ViTForImageClassification(hub.ViTConfig(**hugging_face(), attn_implementation="sdpa"))


@transformer
def hugging_face_deit_unfused() -> nn.Module:
    hub = library("transformers", "transformers")
    return hub.DeiTForImageClassification(hub.DeiTConfig(**hugging_face(), attn_implementation="eager"))


def hugging_face() -> dict[str, Any]:
    sizes = {"image_size": 16, "patch_size": 4, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3}
    return {**sizes, "intermediate_size": 32, "num_labels": 5}


class Unfused(nn.Module):
    """A transformer by hand: heads joined with images, a product by baddbmm, no class token."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, stride=4)
        self.norms = nn.ModuleList(nn.LayerNorm(12) for _ in range(2))
        self.queries = nn.ModuleList(nn.Linear(12, 36) for _ in range(2))
        self.outs = nn.ModuleList(nn.Linear(12, 12) for _ in range(2))
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        for norm, query, out in zip(self.norms, self.queries, self.outs, strict=True):
            q, k, v = (part.unflatten(2, (2, 6)).transpose(1, 2).flatten(0, 1) for part in query(norm(x)).chunk(3, -1))
            maps = torch.bmm(q, k.transpose(1, 2)).mul(0.4).softmax(-1)
            x = x + out(torch.bmm(maps, v).unflatten(0, (-1, 2)).transpose(1, 2).flatten(2))
        return self.head(x.mean(1))


TRANSFORMERS["unfused by hand"] = Unfused


def randomised(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.15)
    return model.eval().requires_grad_(False)


@functools.cache
def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    return randomised(TRANSFORMERS[name]())


@functools.cache
def traced(name: str) -> Network:
    return Network.trace(make(name), torch.randn(2, *SHAPE))


def images(count: int = 3) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(1))
