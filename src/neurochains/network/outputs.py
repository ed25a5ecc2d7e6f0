"""Where the logits are in what a model returns.

Models return tensors, tuples, dicts, dataclasses, and these inside each other. The search looks at types, names and
numbers of dimensions only, so that `torch.export` can follow it:

1. List the tensors of the output in order of preference: the fields ``logits``, ``out``, ``main`` first, then the
   others as they come.
2. Take the first that is ``(N, K)``; where the number K of logits is known, the first with that many.
3. Failing that, the first that is ``(N, K, 1, 1)`` or ``(N,)``, brought to ``(N, K)``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from neurochains.errors import ModelError

__all__ = ["LogitsOnly", "logits_of", "output_path"]

_PREFERRED = ("logits", "out", "main")


class LogitsOnly(nn.Module):
    """A model that returns its logits ``(N, K)`` and nothing else, whatever `model` returns.

    Args:
        model: maps images to an output that contains logits.
        expected: the number K of logits, where it is known.
    """

    def __init__(self, model: nn.Module, *, expected: int | None = None) -> None:
        super().__init__()
        self.model = model
        self.expected = expected

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``(N, K)``."""
        return logits_of(self.model(images), expected=self.expected)


def logits_of(output: Any, *, expected: int | None = None) -> Tensor:
    """Return the logits ``(N, K)`` in a model's output.

    Args:
        output: a tensor, or a tuple, list, mapping, dataclass or object with ``.logits``, also nested.
        expected: the number K of logits, to tell them from features of the same rank.

    Raises:
        ModelError: nothing in the output has the shape of logits; says what came.
    """
    tensor = _find(output, expected)[1]
    return tensor[:, None] if tensor.ndim == 1 else tensor.flatten(1)


def output_path(output: Any, *, expected: int | None = None) -> str:
    """Return where `logits_of` finds the logits: ``"output"``, ``"output[0]"``, ``"output.logits"``, ...

    Raises:
        ModelError: nothing in the output has the shape of logits.
    """
    return _find(output, expected)[0]


def _find(output: Any, expected: int | None) -> tuple[str, Tensor]:
    found = list(_tensors(output, "output"))
    flat = [item for item in found if item[1].ndim == 2]
    sized = [item for item in flat if expected is not None and item[1].shape[1] == expected]
    nearly = [item for item in found if _is_nearly_flat(item[1])]
    for candidates in (sized, flat, nearly):
        if candidates:
            return candidates[0]
    raise ModelError(_nothing_found(output, found))


def _is_nearly_flat(tensor: Tensor) -> bool:
    return tensor.ndim == 1 or (tensor.ndim > 2 and all(length == 1 for length in tensor.shape[2:]))


def _tensors(output: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(output, Tensor):
        yield path, output
        return
    for step, value in _parts(output):
        yield from _tensors(value, path + step)


def _parts(output: Any) -> Iterable[tuple[str, Any]]:
    """Return (step, value) for each part of a container, the preferred names first."""
    if isinstance(output, Mapping):
        dots = isinstance(getattr(output, "logits", None), Tensor)  # a mapping that is used like a dataclass
        return [(f".{name}" if dots else f"[{name!r}]", output[name]) for name in _by_preference(output)]
    if dataclasses.is_dataclass(output):
        names = _by_preference(field.name for field in dataclasses.fields(output))
        return [(f".{name}", getattr(output, name)) for name in names]
    if isinstance(output, tuple) and (fields := getattr(output, "_fields", None)):  # a named tuple
        return [(f".{name}", getattr(output, name)) for name in _by_preference(fields)]
    if isinstance(output, (tuple, list)):
        return [(f"[{index}]", value) for index, value in enumerate(output)]
    return [(f".{name}", getattr(output, name)) for name in _PREFERRED if hasattr(output, name)]


def _by_preference(names: Iterable[Any]) -> list[Any]:
    rank = {name: place for place, name in enumerate(_PREFERRED)}
    return sorted(names, key=lambda name: rank.get(name, len(rank)))


def _nothing_found(output: Any, found: list[tuple[str, Tensor]]) -> str:
    listing = ", ".join(f"{path} {tuple(tensor.shape)}" for path, tensor in found[:6])
    held = f"with tensors {listing}" if found else "that holds no tensor"
    return (
        f"No logits (N, K) in the model's output: it is a {type(output).__name__} {held}. "
        "Wrap the model in a module whose forward returns the logits."
    )
