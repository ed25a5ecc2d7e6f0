"""NeuroChains: the smallest sub-network that keeps the answers on some images, and the chains of filters through it."""

from __future__ import annotations

from neurochains.chains.chain import Chain, load_chain
from neurochains.chains.objectives import OBJECTIVES
from neurochains.chains.origin import check_digest, find_model
from neurochains.chains.parity import full_precision
from neurochains.chains.record import describe_origin, read_task, task_record, task_tensors
from neurochains.chains.scores import Scores
from neurochains.chains.storage import read_result, write_result

__all__ = [
    "OBJECTIVES",
    "Chain",
    "Scores",
    "check_digest",
    "describe_origin",
    "find_model",
    "full_precision",
    "load_chain",
    "read_result",
    "read_task",
    "task_record",
    "task_tensors",
    "write_result",
]
