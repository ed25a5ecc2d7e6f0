"""Gates in the budget method: whole blocks that the goal can spare are left out before single units are."""

from __future__ import annotations

from neurochains.chains.budget import Search
from neurochains.network.blocks import Block

__all__ = ["skip_blocks"]


def skip_blocks(search: Search, *, polish: int = 3, patience: int = 3) -> tuple[str, ...]:
    """Leave out the blocks that the goal can spare, cheapest first; returns their names.

    A block is tried on top of those that are out already. It stays out if, after some tuning of the scores, the
    divergence is within the reserve of the goal; the search ends after `patience` failures in a row.
    """
    live, failures = search.live, 0
    scored = {layer.name for layer in live.layers}
    candidates = [block for block in live.network.blocks if scored.intersection(block.layers)]
    for _, block in sorted(((_cost(search, block), block) for block in candidates), key=lambda pair: pair[0]):
        if failures == patience:
            break
        before = live.save()
        live.skip(block.name, live.members(block.layers))
        divergence = search.polish(polish)
        if search.goal.comfortable(divergence, search.settings.reserve, live) and len(live) >= search.goal.least:
            failures = 0
            continue
        live.restore(before)
        failures += 1
    return live.skipped


def _cost(search: Search, block: Block) -> float:
    """Return the divergence with one block left out."""
    live = search.live
    before = live.save()
    live.skip(block.name, live.members(block.layers))
    cost = search.run_with(live.scores)
    live.restore(before)
    return cost
