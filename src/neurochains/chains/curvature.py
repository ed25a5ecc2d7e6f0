"""How the outputs answer to the scores, to first order, and what that does to the divergence, to second.

Around scores ``s``, the divergence of outputs ``z(s + d)`` from the original's is, up to second order (Gauss-Newton),

    D(s) + g . d + 1/2 |J d|^2,   J = A dz/ds,   A^T A = d2D/dz2,

with ``A`` the square root of the divergence's curvature in the outputs: for KL the Fisher information,
``A = diag(sqrt q) (I - 1 q^T)``. One forward pass and one backward pass for each of a few rows of ``A`` give ``J``.
Where there are more rows than that, the first becomes the direction in which each image's outputs are off (``A^T r``
being the divergence's slope in them), since a thousand small classes may be off together; then come the weightiest
rows, and the rest is added up with random signs, which keeps ``J^T J`` right on average.

Backward passes are dear and forward passes cheap, so one ``J`` serves for several corrections (the chord method):
`Curvature.slope` is what it makes of the outputs as they are after a move.

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

__all__ = ["Curvature", "measure_curvature", "output_factor", "output_slope"]

NOTHING_OFF = 1e-4  # a residual below that is rounding
PIXELS = 5 * 224 * 224  # that a backward pass through the whole network takes at a time


@dataclass(frozen=True, slots=True)
class Curvature:
    """The quadratic model of the divergence: `jacobian` ``(R * B, n)``, `gradient` ``(n,)``, `rows` ``(B, R, K)``.

    `rows` are those of ``A`` that the Jacobian was measured with.
    """

    jacobian: Tensor
    gradient: Tensor
    divergence: float
    rows: Tensor

    def importance(self, scores: Tensor) -> Tensor:
        """Return what removing each unit alone costs, to second order: ``(n,)``, never negative."""
        return 0.5 * self.jacobian.square().sum(0) * scores.square()

    def compensate(self, fixed: Tensor, free: Tensor, damping: float, *, slope: Tensor | None = None) -> Tensor:
        """Return the smallest change of the free scores that makes up for a change of the others: ``(n,)``.

        Minimises ``g . d + 1/2 |J d|^2 + damping / 2 |d|^2`` over the free part of ``d``, the rest being `fixed`;
        solved in the space of the outputs (Woodbury), which has far fewer dimensions than there are scores. `slope` is
        the ``g`` to use in place of the one that was measured.
        """
        jacobian = self.jacobian[:, free]
        gradient = self.gradient if slope is None else slope
        pull = gradient[free] + jacobian.T @ (self.jacobian @ fixed)
        gram = jacobian @ jacobian.T
        damping = max(damping, 4 * torch.finfo(gram.dtype).eps * float(gram.diagonal().amax()))  # or it is singular
        gram.diagonal().add_(damping)
        answer = (jacobian.T @ torch.linalg.solve(gram, jacobian @ pull) - pull) / damping
        change = fixed.clone()
        change[free] = answer
        return change

    def slope(self, pull: Tensor) -> Tensor:
        """Return the divergence's slope in the scores ``(n,)`` where its slope in the outputs is `pull` ``(B, K)``.

        The outputs' answer to the scores is taken to be that of where the curvature was measured.
        """
        return _gather(self.jacobian, _shares(self.rows, pull))

    def without(self, gone: Tensor, scores: Tensor) -> Curvature:
        """Return the model of the units that stay, once those of a mask ``(n,)`` have been removed."""
        moved = self.jacobian[:, gone] @ -scores[gone]
        stay = self.jacobian[:, ~gone]
        return Curvature(stay, self.gradient[~gone] + stay.T @ moved, self.divergence, self.rows)


def measure_curvature(live: LiveNetwork, scores: Tensor, *, rows: int, generator: torch.Generator) -> Curvature:
    """Return the quadratic model of the divergence around scores ``(n,)``; flat where no unit reaches the outputs.

    For an objective that curves nowhere, such as an absolute error, the model is that of the squared error.
    """
    outputs, slopes_of = _answers(live, scores)
    divergence = float(live.objective(outputs, live.original).mean())
    guide, (factor, residual) = live.objective, output_factor(live.objective, outputs, live.original)
    if not factor.any():
        guide, (factor, residual) = squared_error, output_factor(squared_error, outputs, live.original)
    pull = output_slope(guide, outputs, live.original)
    chosen = _choose_rows(factor, residual, pull, min(rows, _rows_that_count(factor)), generator)
    shares = _shares(chosen, pull)
    missed = pull - (chosen.mT @ shares.unsqueeze(2)).squeeze(2)
    followed = torch.cat([chosen, missed.unsqueeze(1)], 1) if missed.norm() > 1e-2 * pull.norm() else chosen
    slopes = slopes_of(followed / math.sqrt(len(outputs)))
    jacobian = slopes[: chosen.shape[1]].flatten(0, 1)
    rest = slopes[chosen.shape[1] :].sum((0, 1)) / math.sqrt(len(outputs))
    return Curvature(jacobian, _gather(jacobian, shares) + rest, divergence, chosen)


def _answers(live: LiveNetwork, scores: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return the outputs ``(B, K)``, and what turns rows ``(B, R, K)`` of them into slopes in the scores ``(R, B, n)``.

    Large images go in parts, so that no more maps are held than a plain step on all of them would; the smaller the
    network has become, the fewer parts, since convolutions run best on many images.
    """
    most = int(PIXELS / max(1, live.images[0, 0].numel()) / live.share**2)
    parts = list(torch.arange(len(live.images)).split(max(1, most)))
    if len(parts) == 1:
        outputs, each = _forward(live, scores, parts[0])
        return outputs.detach(), lambda rows: _backward(outputs, each, rows)
    with torch.no_grad():
        whole = live.logits(scores)
    return whole, lambda rows: torch.cat([_backward(*_forward(live, scores, part), rows[part]) for part in parts], 1)


def _forward(live: LiveNetwork, scores: Tensor, part: Tensor) -> tuple[Tensor, Tensor]:
    """Return the outputs for some of the images and the scores that each of these has."""
    each = scores.detach().expand(len(part), -1).clone().requires_grad_(True)
    images = live.images if len(part) == len(live.images) else live.images[part]
    return live.logits(each, images), each


def _backward(outputs: Tensor, each: Tensor, rows: Tensor) -> Tensor:
    """Return the slopes of rows of the outputs in each image's scores ``(R, B, n)``; 0 where none reaches them."""
    if not outputs.requires_grad:
        return each.new_zeros(rows.shape[1], *each.shape)
    last = rows.shape[1] - 1
    return torch.stack(
        [torch.autograd.grad(outputs, each, row, retain_graph=i < last)[0] for i, row in enumerate(rows.unbind(1))]
    )


def _shares(rows: Tensor, pull: Tensor) -> Tensor:
    """Return the sum of the rows ``(B, R, K)`` that comes nearest to slopes in the outputs: ``(B, R)``."""
    gram = rows @ rows.mT
    diagonal = gram.diagonal(dim1=1, dim2=2)
    diagonal.add_(diagonal.amax(1, keepdim=True), alpha=16 * torch.finfo(gram.dtype).eps).add_(1e-30)
    return torch.linalg.solve(gram, rows @ pull.unsqueeze(2)).squeeze(2)


def _gather(jacobian: Tensor, shares: Tensor) -> Tensor:
    """Return the mean over images of the slopes ``(n,)`` that shares ``(B, R)`` of the Jacobian's rows add up to."""
    return jacobian.T @ shares.T.flatten() / math.sqrt(len(shares))


def output_factor(objective: Objective, outputs: Tensor, original: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``A`` ``(B, R, K)`` with ``A^T A`` the divergence's curvature in the outputs, weightiest rows first.

    Beside it the residual ``r`` ``(B, R)``, for which ``A^T r`` is the divergence's slope in the outputs; where an
    output is far too improbable, it is bounded. Directions in which the divergence curves downwards count as flat.
    """
    factor, residual = (
        _fisher_root(outputs, original)
        if objective is kl_divergence
        else _root_of_hessian(objective, outputs, original)
    )
    order = factor.square().sum(2).argsort(dim=1, descending=True, stable=True)
    return factor.gather(1, order.unsqueeze(2).expand_as(factor)), residual.gather(1, order)


def _fisher_root(outputs: Tensor, original: Tensor) -> tuple[Tensor, Tensor]:
    p, q = original.softmax(-1), outputs.softmax(-1)
    factor = torch.diag_embed(q.sqrt()) - q.sqrt().unsqueeze(2) * q.unsqueeze(1)
    return factor, (q - p) / torch.maximum(p, q).sqrt().clamp_min(1e-30)


def _root_of_hessian(objective: Objective, outputs: Tensor, original: Tensor) -> tuple[Tensor, Tensor]:
    def total(values: Tensor) -> Tensor:
        return objective(values, original).sum()

    hessian = torch.nan_to_num(_batch_hessian(total, outputs), 0.0, 0.0, 0.0)
    values, vectors = torch.linalg.eigh((hessian + hessian.mT) / 2)
    roots = values.clamp_min(0).sqrt()
    along = (vectors.mT @ output_slope(objective, outputs, original).unsqueeze(2)).squeeze(2)
    curved = values > 1e-9 * values.amax(1, keepdim=True).clamp_min(1e-30)
    return roots.unsqueeze(2) * vectors.mT, torch.where(curved, along / roots.clamp_min(1e-30), 0.0)


def output_slope(objective: Objective, outputs: Tensor, original: Tensor) -> Tensor:
    """Return the slope of each image's divergence in its outputs: ``(B, K)``."""
    with torch.enable_grad():
        outputs = outputs.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(objective(outputs, original).sum(), outputs)
    return torch.nan_to_num(slope, 0.0, 0.0, 0.0)


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


def _choose_rows(factor: Tensor, residual: Tensor, pull: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    """Return at most `rows` rows: the residual's direction, the weightiest, and the rest added up with random signs."""
    if factor.shape[1] <= rows:
        return factor
    size = residual.norm(dim=1, keepdim=True)
    if rows == 1 or float(size.max()) < NOTHING_OFF:
        return _folded(factor, rows, generator)
    size = size.clamp_min(NOTHING_OFF)
    others = factor - (residual / size).unsqueeze(2) * ((residual / size).unsqueeze(1) @ factor)
    return torch.cat([(pull / size).unsqueeze(1), _folded(others, rows - 1, generator)], 1)


def _folded(factor: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    """Return `rows` rows: the weightiest as they are, the rest added up with random signs."""
    rest = factor[:, rows - 1 :]
    signs = torch.randint(0, 2, rest.shape[:2], generator=generator).to(factor) * 2 - 1
    return torch.cat([factor[:, : rows - 1], (rest * signs.unsqueeze(2)).sum(1, keepdim=True)], 1)
