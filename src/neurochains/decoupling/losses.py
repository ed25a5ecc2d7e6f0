"""The losses of decoupling: codes that carry information, agree with the layer's outputs, and are sparse.

``L = CE + mi L_mi + kl L_kl + sparse L_s``, each a *sum* over the controlled layers l with code ``z``:

- ``L_mi = sum_l CE(H_l z, label)``. Since I(X; Z) >= I(Y; Z) >= H(Y) + E log q(y | z) for any q, minimising the cross
  entropy of a classifier on the codes maximises a lower bound of the information that they carry on the images.
- ``L_kl = sum_l KL(softmax(u) || softmax(z)) / C``, with ``u`` the means of the maps before they are multiplied.
  Gradients reach both. The published code has the other direction in some networks; the division by the number C of
  filters is that of its ``reduction="mean"``, which the published weights assume.
- ``L_s = sum_l | mean over images of ||z||_1 - R C |``. R is the share of filters that is *kept*. The absolute value is
  that of the mean of a batch, so that single images may differ: that leaves room for dynamic filters.

Source: Li et al., ECCV 2020, Eqs. 3 to 6, and the code of its authors. Shapes: B images, C filters of a layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurochains.errors import DataError, LayerError, SettingsError, did_you_mean

__all__ = ["LossWeights", "agreement_loss", "information_loss", "sparsity_loss"]

Codes = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class LossWeights:
    """The weights of the three losses, and the share of filters to keep.

    Attributes:
        mi, kl, sparse: lambda_m, lambda_k and lambda_s of the paper; 0 leaves a loss out.
        kept: R, the share of filters that an image shall use on average; one for all layers or by layer name
            (labels, too, in `train_decoupled`), and then layers that are not named have 0.
        kl_by_width: divide L_kl by the number of filters, as the published weights assume.

    Raises:
        SettingsError: a weight is negative, or a share is not between 0 and 1.
    """

    mi: float = 0.01
    kl: float = 1.0
    sparse: float = 0.0002
    kept: float | Mapping[str, float] = 0.0
    kl_by_width: bool = True

    def __post_init__(self) -> None:
        for name in ("mi", "kl", "sparse"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise SettingsError(f"The weight {name} of a loss must be 0 or more; got {getattr(self, name)}.")
        shares = self.kept.items() if isinstance(self.kept, Mapping) else [("every layer", self.kept)]
        for name, share in shares:
            if not 0 <= share <= 1:
                raise SettingsError(
                    f"The share of filters to keep in {name} must be between 0 (as few as the other losses allow) and "
                    f"1 (all of them); got {share}. It is the share that is kept, not the one that is removed."
                )

    def kept_in(self, layer: str) -> float:
        """Return the share of filters to keep in one layer."""
        return self.kept.get(layer, 0.0) if isinstance(self.kept, Mapping) else self.kept

    def check_layers(self, layers: tuple[str, ...]) -> None:
        """Check that the layers with a share of their own are controlled.

        Raises:
            LayerError: one is not; lists the nearest.
        """
        for name in self.kept if isinstance(self.kept, Mapping) else ():
            if name not in layers:
                raise LayerError(f"No controlled layer is called {name!r}. {did_you_mean(name, layers)}".rstrip())


def information_loss(codes: Codes, heads: Mapping[str, nn.Module] | nn.ModuleDict, labels: Tensor | None) -> Tensor:
    """Return ``L_mi``: the cross entropy of the labels given the codes, by a linear classifier of each layer, summed.

    Args:
        codes: ``(B, C)`` by layer.
        heads: by layer, maps ``(B, C)`` to logits ``(B, classes)``.
        labels: ``(B,)``.

    Raises:
        DataError: there are no labels.
    """
    if labels is None:
        raise DataError("L_mi needs a label for each image, but there are none. Pass labels, or set its weight mi=0.")
    return _sum(F.cross_entropy(heads[name](code), labels) for name, code in codes.items())


def agreement_loss(codes: Codes, means: Codes, *, by_width: bool = True) -> Tensor:
    """Return ``L_kl``: how far the softmax of the codes is from that of the layers' mean outputs, summed.

    Args:
        codes: ``(B, C)`` by layer.
        means: ``(B, C)`` by layer: the means over positions of the maps before they are multiplied.
        by_width: divide the divergence of each layer by C.
    """
    losses = []
    for name, code in codes.items():
        wanted, given = F.log_softmax(means[name].to(code.dtype), 1), F.log_softmax(code, 1)
        divergence = F.kl_div(given, wanted, reduction="batchmean", log_target=True)
        losses.append(divergence / code.shape[1] if by_width else divergence)
    return _sum(losses)


def sparsity_loss(codes: Codes, weights: LossWeights) -> Tensor:
    """Return ``L_s``: how far the mean number of filters that are on is from the number to keep, summed."""
    counts = {name: code.abs().sum(1).mean() for name, code in codes.items()}
    return _sum((count - weights.kept_in(name) * codes[name].shape[1]).abs() for name, count in counts.items())


def _sum(losses: object) -> Tensor:
    return torch.stack(list(losses)).sum()  # type: ignore[call-overload]
