"""What a training step computes: all losses of a batch, and what a validation counts.

Shapes: B images, C filters of a layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurochains.decoupling.decoupled import Answer, Decoupled
from neurochains.decoupling.losses import LossWeights, agreement_loss, information_loss, sparsity_loss
from neurochains.decoupling.states import States

__all__ = ["Objective", "Tally"]


class Objective(nn.Module):
    """A decoupled network with the classifiers on its codes that training needs and inference does not."""

    def __init__(
        self,
        decoupled: Decoupled,
        weights: LossWeights,
        augment: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.decoupled = decoupled
        self.weights = weights
        self.augment = augment
        self.heads = nn.ModuleList(_heads(decoupled) if weights.mi else [])

    def losses(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the weighted sum as ``loss`` and its parts, unweighted: ``task``, ``mi``, ``kl``, ``sparse``.

        What has weight 0 is not computed.
        """
        answer = self.decoupled.answer(images if self.augment is None else self.augment(images))
        parts = {"task": F.cross_entropy(answer.logits.float(), labels), **self._code_losses(answer, labels)}
        scales = {"task": 1.0, "mi": self.weights.mi, "kl": self.weights.kl, "sparse": self.weights.sparse}
        total = torch.stack([scales[name] * value for name, value in parts.items()]).sum()
        return {"loss": total, **parts}

    def _code_losses(self, answer: Answer, labels: Tensor) -> dict[str, Tensor]:
        parts: dict[str, Tensor] = {}
        if self.weights.mi:
            heads = dict(zip(self.decoupled.layers, self.heads, strict=True))
            parts["mi"] = information_loss(answer.codes, heads, labels)
        if self.weights.kl:
            parts["kl"] = agreement_loss(answer.codes, answer.means, by_width=self.weights.kl_by_width)
        if self.weights.sparse:
            parts["sparse"] = sparsity_loss(answer.codes, self.weights)
        return parts

    def tally(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return what a `Tally` adds up of a batch: images, right ones, loss, agreement, counts of filters, blanks."""
        answer = self.decoupled.answer(images)
        right = (answer.logits.argmax(1) == labels).sum()
        loss = F.cross_entropy(answer.logits.float(), labels, reduction="sum")
        heads = torch.stack([torch.tensor(len(labels)).to(loss), right, loss, _agreement(answer)]).double()
        counts = [code.sum(0) for code in answer.codes.values()]
        blank = torch.stack([(code.sum(1) == 0).sum() for code in answer.codes.values()])
        return torch.cat([heads, *counts, blank]).double()


@dataclass(frozen=True, slots=True)
class Tally:
    """What a validation counted.

    Attributes:
        images: how many.
        accuracy, loss: the share of right answers, and the mean cross entropy.
        agreement: how well codes follow the mean outputs of their layer: the correlation over its filters, 0 where
            either is constant, in the mean over layers and images.
        states: how often each filter was on.
    """

    images: int
    accuracy: float
    loss: float
    agreement: float
    states: States

    @staticmethod
    def size(decoupled: Decoupled) -> int:
        """Return the length of what `Objective.tally` returns."""
        return 4 + sum(decoupled.filters.values()) + len(decoupled.layers)

    @classmethod
    def of(cls, total: Tensor, decoupled: Decoupled) -> Tally:
        """Return the tally of a sum of what `Objective.tally` returned."""
        numbers = total.cpu()
        images, layers = int(numbers[0]), decoupled.layers
        *counts, blank = numbers[4:].round().long().split([*decoupled.filters.values(), len(layers)])
        blanks = {name: count for name, count in zip(layers, blank.tolist(), strict=True) if count}
        states = States(dict(zip(layers, counts, strict=True)), images, blank=blanks)
        accuracy, loss, agreement = (numbers[1:4] / images).tolist()
        return cls(images, accuracy, loss, agreement, states)


def _agreement(answer: Answer) -> Tensor:
    """Return the sum over images of the correlation of codes and mean outputs, in the mean over layers."""
    found = []
    for name, code in answer.codes.items():
        sides = [values.float() - values.float().mean(1, keepdim=True) for values in (code, answer.means[name])]
        scale = (sides[0].square().sum(1) * sides[1].square().sum(1)).sqrt()
        found.append(torch.where(scale > 0, (sides[0] * sides[1]).sum(1) / scale, 0.0))
    return torch.stack(found).mean(0).sum()


def _heads(decoupled: Decoupled) -> list[nn.Module]:
    classes, like = decoupled.network.outputs, next(decoupled.body.parameters())
    return [nn.Linear(filters, classes, bias=False).to(like) for filters in decoupled.filters.values()]
