"""Which units are cheapest to remove: each for itself, or together, with what the others can make up for left out.

By the quadratic model (`neurochains.chains.curvature`), removing the units ``S`` moves the outputs by ``-r`` with
``r = J_S s_S``; the free units ``F`` make up for it as far as their damping lets them, and what is left costs

    C(S) = min over d of 1/2 |J_F d - r|^2 + k / 2 |d|^2 = k / 2 r^T M^-1 r,   M = k I + J_F J_F^T.

With ``a_j = J_j^T M^-1 J_j`` and ``u_j = J_j^T M^-1 r``, one unit more costs

    C(S + j) - C(S) = k / 2 (2 s_j u_j + s_j^2 a_j + (u_j + s_j a_j)^2 / (1 - a_j)),

which for the first is what the optimal brain surgeon takes (Hassibi and Stork, 1993); two units that stand in for one
another are cheap each, but not together, and this sees it. It needs about as many equations as there are units: with
far more units, everything looks as if it could be made up for, and the cost of each for itself is the better guide.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neurochains.chains.curvature import Curvature

__all__ = ["cheapest", "cheapest_together"]

MANY = 400  # units from which on each counts for itself
DAMPING = 0.05  # of the mean square length of the Jacobian's rows
PARTS = 20  # in so many parts a choice is made


def cheapest(curvature: Curvature, scores: Tensor, count: int, *, together: bool = True) -> Tensor:
    """Return the `count` units of a model that are cheapest to remove, the cheapest first: ``(count,)``.

    Args:
        curvature: the quadratic model around the scores.
        scores: ``(n,)``.
        count: at most n.
        together: whether the others may make up for what goes; then few units are chosen with regard to that.
    """
    if together and len(scores) <= MANY and count < len(scores):
        return cheapest_together(curvature, scores, count, at_once=max(1, count // PARTS))
    return curvature.importance(scores).argsort(stable=True)[:count]


def cheapest_together(curvature: Curvature, scores: Tensor, count: int, *, at_once: int = 1) -> Tensor:
    """Return the `count` units ``(count,)`` that cost least together, chosen greedily, `at_once` at a time."""
    jacobian, values = curvature.jacobian.cpu().double(), scores.cpu().double()
    damping = DAMPING * float(jacobian.square().sum(1).mean()) or 1.0
    inverse = torch.linalg.inv(jacobian @ jacobian.T + damping * torch.eye(len(jacobian), dtype=jacobian.dtype))
    leverage = (jacobian * (inverse @ jacobian)).sum(0)
    moved = jacobian.new_zeros(len(jacobian))
    chosen = torch.empty(0, dtype=torch.int64)
    while len(chosen) < count:
        pull = jacobian.T @ (inverse @ moved)
        own = pull + values * leverage
        costs = 2 * values * pull + values.square() * leverage + own.square() / (1 - leverage).clamp_min(1e-9)
        costs[chosen] = torch.inf
        picked = costs.argsort(stable=True)[: min(at_once, count - len(chosen))]
        part = jacobian[:, picked]
        moved = moved + part @ values[picked]
        inverse, change = _without(inverse, part)
        leverage = leverage + ((jacobian.T @ change[0]) * (jacobian.T @ change[1])).sum(1)
        chosen = torch.cat([chosen, picked])
    return chosen.to(scores.device)


def _without(inverse: Tensor, part: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return ``(M - P P^T)^-1`` from ``M^-1`` and ``P``, and the two factors of what has been added (Woodbury)."""
    solved = inverse @ part
    core = torch.eye(part.shape[1], dtype=part.dtype) - part.T @ solved
    left = torch.linalg.solve(core, solved.T).T
    return inverse + left @ solved.T, (left, solved)
