"""How the outputs answer to the scores, to first order, and what that does to the divergence, to second.

Around scores ``s``, the divergence of outputs ``z(s + d)`` from the original's is, up to second order (Gauss-Newton),

    D(s) + g . d + 1/2 |J d|^2,   J = A dz/ds,   A^T A = d2D/dz2,

with ``A`` the square root of the divergence's curvature in the outputs: for KL the Fisher information,
``A = diag(sqrt q) (I - 1 q^T)``. One forward pass and one backward pass for each of a few rows of ``A`` give ``J``; the
rows beyond those (the classes of small probability) are added up with random signs, which keeps ``J^T J`` right on
average.

Shapes: n living units, B images, K outputs, R rows for each image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from neurochains.chains.live import LiveNetwork
from neurochains.chains.objectives import Objective, kl_divergence, squared_error

__all__ = ["Curvature", "measure_curvature", "output_factor"]


@dataclass(frozen=True, slots=True)
class Curvature:
    """The quadratic model of the divergence: `jacobian` ``(R * B, n)``, `gradient` ``(n,)``."""

    jacobian: Tensor
    gradient: Tensor
    divergence: float

    def importance(self, scores: Tensor) -> Tensor:
        """Return what removing each unit alone costs, to second order: ``(n,)``, never negative."""
        return 0.5 * self.jacobian.square().sum(0) * scores.square()

    def compensate(self, fixed: Tensor, free: Tensor, damping: float) -> Tensor:
        """Return the smallest change of the free scores that makes up for a change of the others: ``(n,)``.

        Minimises ``g . d + 1/2 |J d|^2 + damping / 2 |d|^2`` over the free part of ``d``, the rest being `fixed`;
        solved in the space of the outputs (Woodbury), which has far fewer dimensions than there are scores.
        """
        jacobian = self.jacobian[:, free]
        slope = self.gradient[free] + jacobian.T @ (self.jacobian @ fixed)
        gram = jacobian @ jacobian.T
        gram.diagonal().add_(damping)
        answer = (jacobian.T @ torch.linalg.solve(gram, jacobian @ slope) - slope) / damping
        change = fixed.clone()
        change[free] = answer
        return change


def measure_curvature(live: LiveNetwork, scores: Tensor, *, rows: int, generator: torch.Generator) -> Curvature:
    """Return the quadratic model of the divergence around scores ``(n,)``; flat where no unit reaches the outputs.

    For an objective that curves nowhere, such as an absolute error, the model is that of the squared error.
    """
    count = len(live.images)
    each = scores.detach().expand(count, -1).clone().requires_grad_(True)
    outputs = live.logits(each)
    divergence = live.objective(outputs, live.original).mean()
    if not divergence.requires_grad:
        return Curvature(torch.zeros_like(each), torch.zeros_like(scores), float(divergence))
    guide, factor = live.objective, output_factor(live.objective, outputs.detach(), live.original)
    if not factor.any():
        guide, factor = squared_error, output_factor(squared_error, outputs.detach(), live.original)
    gradient = torch.autograd.grad(guide(outputs, live.original).mean(), each, retain_graph=True)[0].sum(0)
    factor = _folded(factor, min(rows, _rows_that_count(factor)), generator)
    jacobian = [
        torch.autograd.grad(outputs, each, factor[:, row] / math.sqrt(count), retain_graph=row + 1 < factor.shape[1])[0]
        for row in range(factor.shape[1])
    ]
    return Curvature(torch.cat(jacobian), gradient, float(divergence.detach()))


def output_factor(objective: Objective, outputs: Tensor, original: Tensor) -> Tensor:
    """Return ``A`` ``(B, R, K)`` with ``A^T A`` the divergence's curvature in the outputs, weightiest rows first.

    Directions in which the divergence curves downwards count as flat.
    """
    if objective is kl_divergence:
        q = outputs.softmax(-1)
        root = q.sqrt().unsqueeze(2)
        factor = torch.diag_embed(q.sqrt()) - root * q.unsqueeze(1)
    else:
        factor = _root_of_hessian(objective, outputs, original)
    order = factor.square().sum(2).argsort(dim=1, descending=True, stable=True)
    return factor.gather(1, order.unsqueeze(2).expand_as(factor))


def _root_of_hessian(objective: Objective, outputs: Tensor, original: Tensor) -> Tensor:
    def total(values: Tensor) -> Tensor:
        return objective(values, original).sum()

    hessian = torch.nan_to_num(_batch_hessian(total, outputs), 0.0, 0.0, 0.0)
    values, vectors = torch.linalg.eigh((hessian + hessian.mT) / 2)
    return values.clamp_min(0).sqrt().unsqueeze(2) * vectors.mT


def _batch_hessian(function: Callable[[Tensor], Tensor], outputs: Tensor) -> Tensor:
    """Return the second derivatives ``(B, K, K)`` of a sum over samples, one output at a time."""
    outputs = outputs.detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(function(outputs), outputs, create_graph=True)
    if not slope.requires_grad:
        return torch.zeros(*outputs.shape, outputs.shape[1], device=outputs.device)
    columns = [torch.autograd.grad(slope[:, k].sum(), outputs, retain_graph=True)[0] for k in range(outputs.shape[1])]
    return torch.stack(columns, 1)


def _rows_that_count(factor: Tensor, *, most: float = 0.98) -> int:
    """Return how many rows hold nearly all of the curvature, and one for the rest: confident answers need few."""
    weights = factor.square().sum(2).sum(0).cumsum(0)
    return int((weights < most * weights[-1]).sum()) + 2


def _folded(factor: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    """Return at most `rows` rows: the weightiest as they are, the rest added up with random signs."""
    if factor.shape[1] <= rows:
        return factor
    rest = factor[:, rows - 1 :]
    signs = torch.randint(0, 2, rest.shape[:2], generator=generator).to(factor) * 2 - 1
    return torch.cat([factor[:, : rows - 1], (rest * signs.unsqueeze(2)).sum(1, keepdim=True)], 1)
