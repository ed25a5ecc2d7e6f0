"""Weights from files: safetensors, or PyTorch checkpoints that hold tensors only.

1. Read the file; nothing in it is executed unless ``trust_pickle`` says so.
2. Unpack what training scripts wrap around weights: ``{"state_dict": ...}``, ``"module."`` and ``"_orig_mod."``.
3. Compare names and shapes with the module, and refuse with a full list if they do not fit.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from neurochains.errors import WeightsError

__all__ = ["check_finite", "fit_names", "load_weights", "misshaped", "read_weights"]

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "state_dict_ema", "model_ema")
_PREFIXES = ("module.", "model.", "net.", "backbone.")
_PICKLED = (".pt", ".pth", ".ckpt", ".bin", ".tar")


def read_weights(path: str | Path, *, trust_pickle: bool = False) -> dict[str, Tensor]:
    """Return the tensors in a file by name.

    Args:
        path: ``.safetensors``, or a PyTorch checkpoint (``.pt``, ``.pth``, ``.ckpt``, ``.bin``).
        trust_pickle: unpickle arbitrary objects from a checkpoint, which runs code that the file contains.

    Raises:
        WeightsError: no such file; not readable; holds more than tensors and is not trusted; or holds no weights.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"There is no weights file {path}.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix not in _PICKLED:
        raise WeightsError(f"Weights must be a .safetensors, {', '.join(_PICKLED)} file; got {path.name}.")
    return _state_of(_read_checkpoint(path, trust_pickle), path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a whole safetensors file ({error}). Copy or download it again.") from error


def _read_checkpoint(path: Path, trust_pickle: bool) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about TorchScript archives, which are refused below
            return torch.load(path, map_location="cpu", weights_only=not trust_pickle)
    except pickle.UnpicklingError as error:
        raise WeightsError(_pickle_message(path, trust_pickle)) from error
    except Exception as error:  # a damaged file breaks torch.load in many ways
        first = next(iter(str(error).splitlines()), "")
        raise WeightsError(
            f"{path} cannot be read as a PyTorch checkpoint ({type(error).__name__}: {first}). "
            "Copy or download it again."
        ) from error


def _pickle_message(path: Path, trust_pickle: bool) -> str:
    if trust_pickle:
        return f"{path} is damaged or not a PyTorch checkpoint. Copy or download it again."
    return (
        f"{path} is not a plain PyTorch checkpoint: it is damaged, or it holds pickled objects besides tensors, and "
        "reading those runs code from the file. Save the weights as safetensors, or, if you trust where the file comes "
        "from, pass trust_pickle=True (--trust-pickle)."
    )


def _state_of(loaded: Any, path: Path) -> dict[str, Tensor]:
    """Return the weights in what was unpickled: a whole module, a dict of tensors, or such a dict inside dicts."""
    if isinstance(loaded, nn.Module):
        return dict(loaded.state_dict())
    if isinstance(loaded, Mapping):
        for key in _WRAPPERS:
            if isinstance(loaded.get(key), (Mapping, nn.Module)):
                return _state_of(loaded[key], path)
        tensors = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
    held = f"a dict of {sorted(map(str, loaded))[:8]}" if isinstance(loaded, Mapping) else type(loaded).__name__
    raise WeightsError(f"{path} holds no weights by name; it holds {held}. Save model.state_dict() instead.")


def fit_names(state: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
    """Return the weights under the names that the module has, without the prefixes that wrappers leave.

    A prefix goes only where all names have it and the module's have not. The counter that weight averaging leaves
    (``n_averaged``) goes as well.
    """
    names = set(wanted)
    named = {name if name in names else name.replace("_orig_mod.", ""): tensor for name, tensor in state.items()}
    if "n_averaged" not in names:
        named.pop("n_averaged", None)
    while prefix := next((prefix for prefix in _PREFIXES if _is_spare(prefix, named, names)), None):
        named = {name.removeprefix(prefix): tensor for name, tensor in named.items()}
    return named


def _is_spare(prefix: str, named: Iterable[str], wanted: set[str]) -> bool:
    named = set(named)
    return bool(named) and all(name.startswith(prefix) for name in named) and not named & wanted


def misshaped(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return (wanted, got) for every weight whose shape is not the module's."""
    own = module.state_dict()
    shapes = {name: (tuple(own[name].shape), tuple(state[name].shape)) for name in own if name in state}
    return {name: pair for name, pair in shapes.items() if pair[0] != pair[1]}


def load_weights(module: nn.Module, state: Mapping[str, Tensor], *, source: str, name: str) -> None:
    """Copy weights into a module, all of them; other float types are converted to the module's.

    Batch counters of batch norm may be missing: they are no weights.

    Args:
        module: changed in place, or not at all.
        state: as `read_weights` and `fit_names` return it.
        source: the file, for the message.
        name: the model, for the message.

    Raises:
        WeightsError: names or shapes do not fit (lists them), or the weights are quantised.
    """
    own = module.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    shapes = [f"{key} wants {want}, got {got}" for key, (want, got) in misshaped(module, state).items()]
    problems = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
    if any(items for _, items in problems):
        listing = "\n".join(f"  {what} ({len(items)}): {_some(items)}" for what, items in problems if items)
        raise WeightsError(
            f"The weights in {source} do not fit {name}:\n{listing}\n"
            "Give the weights of this architecture, or name the architecture that they belong to."
        )
    _refuse_integers(own, state, source)
    module.load_state_dict(dict(state), strict=False)


def _refuse_integers(own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> None:
    packed = [key for key in state if own[key].is_floating_point() and not state[key].is_floating_point()]
    if packed:
        raise WeightsError(
            f"{source} holds integers where weights belong: {_some(packed)}. Quantised weights cannot be used; "
            "give the floating-point ones."
        )


def check_finite(module: nn.Module, *, name: str = "the model") -> None:
    """Do nothing if all weights are finite.

    Raises:
        WeightsError: a parameter or buffer holds NaN or infinite values; names the first ones.
    """
    bad = [key for key, tensor in module.state_dict().items() if _is_broken(tensor)]
    if bad:
        raise WeightsError(
            f"{name} has NaN or infinite values in {len(bad)} weight tensors: {_some(bad)}. Nothing it computes means "
            "anything; load sound weights."
        )


def _is_broken(tensor: Any) -> bool:
    return isinstance(tensor, Tensor) and tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())


def _some(items: list[str], most: int = 8) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
