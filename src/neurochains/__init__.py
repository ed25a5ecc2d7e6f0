"""NeuroChains shows how a trained vision network reaches its answer on the images you care about.

The public names load on first use, so that ``import neurochains`` costs neither torch nor a plotting library::

    import neurochains as nc

    model = nc.load_model("torchvision:resnet50")
    task = nc.Task.from_folder("images", classes=["dalmatian", "strawberry"], per_class=10, model=model)
    chain = nc.extract(model, task, fidelity=0.05)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurochains.chains import Chain, load_chain
    from neurochains.data import Task
    from neurochains.errors import NeuroChainsError
    from neurochains.extraction import extract
    from neurochains.network import Network, load_model
    from neurochains.preprocess import Preprocess

__all__ = [
    "Chain",
    "Network",
    "NeuroChainsError",
    "Preprocess",
    "Task",
    "extract",
    "load_chain",
    "load_model",
]

__version__ = "0.1.0"

_HOMES = {
    "Chain": "neurochains.chains",
    "Network": "neurochains.network",
    "NeuroChainsError": "neurochains.errors",
    "Preprocess": "neurochains.preprocess",
    "Task": "neurochains.data",
    "extract": "neurochains.extraction",
    "load_chain": "neurochains.chains",
    "load_model": "neurochains.network",
}


def __getattr__(name: str) -> Any:
    """Return a public name, importing the module it lives in (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
