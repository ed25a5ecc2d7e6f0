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
    from neurochains.circuits import (
        Bundle,
        Circuit,
        circuit,
        circuits_by_size,
        hierarchical_group_sparsity,
        importance,
        layer_subfeatures,
        load_circuit,
        prepare,
        query,
        subfeatures,
    )
    from neurochains.data import Task
    from neurochains.decoupling import Decoupled, decouple, detect, load_decoupled, train_decoupled
    from neurochains.errors import NeuroChainsError
    from neurochains.explorer import explore
    from neurochains.extraction import extract
    from neurochains.measures import compare, planted, planted_names
    from neurochains.network import Network, load_model
    from neurochains.pictures import attribution
    from neurochains.preprocess import Preprocess
    from neurochains.studies import read_study, run_study

__all__ = [
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

__version__ = "0.1.0"

_HOMES = {
    "Bundle": "neurochains.circuits",
    "Chain": "neurochains.chains",
    "Circuit": "neurochains.circuits",
    "Decoupled": "neurochains.decoupling",
    "Network": "neurochains.network",
    "NeuroChainsError": "neurochains.errors",
    "Preprocess": "neurochains.preprocess",
    "Task": "neurochains.data",
    "attribution": "neurochains.pictures",
    "circuit": "neurochains.circuits",
    "circuits_by_size": "neurochains.circuits",
    "compare": "neurochains.measures",
    "decouple": "neurochains.decoupling",
    "detect": "neurochains.decoupling",
    "explore": "neurochains.explorer",
    "extract": "neurochains.extraction",
    "hierarchical_group_sparsity": "neurochains.circuits",
    "importance": "neurochains.circuits",
    "layer_subfeatures": "neurochains.circuits",
    "load_chain": "neurochains.chains",
    "load_circuit": "neurochains.circuits",
    "load_decoupled": "neurochains.decoupling",
    "load_model": "neurochains.network",
    "planted": "neurochains.measures",
    "planted_names": "neurochains.measures",
    "prepare": "neurochains.circuits",
    "query": "neurochains.circuits",
    "read_study": "neurochains.studies",
    "run_study": "neurochains.studies",
    "subfeatures": "neurochains.circuits",
    "train_decoupled": "neurochains.decoupling",
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
