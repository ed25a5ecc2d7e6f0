"""The module that does the work in what the user handed over: unwrapped, in float32, or refused with the reason."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from neurochains.errors import ModelError

__all__ = ["prepare"]

_HALF = (torch.float16, torch.bfloat16)
_QUANTISERS = ("bitsandbytes", "torchao", "auto_gptq", "awq", "optimum.quanto", "quanto")


def prepare(module: nn.Module) -> nn.Module:
    """Return the module to work on; the one handed over is not changed and shares its weights where it can.

    DataParallel, DistributedDataParallel, AveragedModel and compiled modules are unwrapped, compiled parts too. A model
    with float16 or bfloat16 weights is copied to float32.

    Raises:
        ModelError: no module; quantised; spread over several devices; or without weights (device "meta").
    """
    if not isinstance(module, nn.Module):
        raise ModelError(f"A model must be a torch.nn.Module; got {type(module).__name__}.")
    bare = _bare(module, {})
    _refuse_quantised(bare)
    _refuse_devices(bare)
    if any(tensor.dtype in _HALF for tensor in bare.parameters()):
        return copy.deepcopy(bare).float()
    return bare


def _bare(module: nn.Module, done: dict[int, nn.Module]) -> nn.Module:
    """Return the module without wrappers, itself if there are none; a module used twice stays one module."""
    if id(module) not in done:
        inner = _unwrapped(module)
        children = {name: _bare(child, done) for name, child in inner._modules.items() if child is not None}
        changed = any(inner._modules[name] is not child for name, child in children.items())
        done[id(module)] = _twin(inner, children) if changed or _is_compiled(inner) else inner
    return done[id(module)]


def _unwrapped(module: nn.Module) -> nn.Module:
    while True:
        if isinstance(module, (DataParallel, DistributedDataParallel, AveragedModel)):
            module = module.module
        elif isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):  # torch.compile(module)
            module = inner
        else:
            return module


def _is_compiled(module: nn.Module) -> bool:
    return getattr(module, "_compiled_call_impl", None) is not None  # module.compile()


def _twin(module: nn.Module, children: dict[str, nn.Module]) -> nn.Module:
    """Return a module with the same tensors and code but other children, and not compiled."""
    twin = copy.copy(module)
    twin._modules = {**module._modules, **children}
    twin._compiled_call_impl = None
    return twin


def _refuse_quantised(module: nn.Module) -> None:
    for name, part in module.named_modules():
        if _is_quantised(part):
            raise ModelError(
                f"{name or 'the model'} ({type(part).__name__}) is quantised. Scores and gradients need floating-point "
                "weights: load the float32 model that it was made from."
            )


def _is_quantised(module: nn.Module) -> bool:
    package = type(module).__module__
    if package.startswith(_QUANTISERS) or (package.startswith("torch.") and ".quantized" in package):
        return True
    return any(tensor is not None and _is_packed(tensor) for tensor in module._parameters.values())


def _is_packed(tensor: Tensor) -> bool:
    """Return whether these are int8, uint8 or float8 weights."""
    return tensor.is_quantized or (tensor.dtype.itemsize == 1 and tensor.dtype != torch.bool)


def _refuse_devices(module: nn.Module) -> None:
    devices = sorted({str(tensor.device) for tensor in module.parameters()})
    if "meta" in devices:
        raise ModelError('The model is on device "meta": it has no weights. Load weights into it first.')
    if len(devices) > 1:
        raise ModelError(
            f"The model is spread over {', '.join(devices)}. Put it on one device: load it without device_map."
        )
