"""NeuroChains: the smallest sub-network that keeps the answers on some images, and the chains of filters through it."""

from __future__ import annotations

from neurochains.chains.chain import Chain, load_chain
from neurochains.chains.objectives import OBJECTIVES
from neurochains.chains.scores import Scores

__all__ = ["OBJECTIVES", "Chain", "Scores", "load_chain"]
