"""What the network answers to the chosen image: whole, as a chain or circuit, and without what is switched off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from neurochains.explorer.desk import Desk
from neurochains.explorer.view import UPLOAD, View
from neurochains.pictures.explorer_figures_maps import predictions_figure

__all__ = ["Answers", "answers"]

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Answers:
    """The probabilities of all outputs, ``(outputs,)``, of the networks by name, and the image's own label or -1."""

    label: int
    series: dict[str, Tensor]

    @property
    def shown(self) -> list[int]:
        """The outputs to show: the largest of each network, and the label."""
        each = max(2, _SHOWN - len(self.series) + 1)
        best = [
            output for values in self.series.values() for output in values.topk(min(each, len(values))).indices.tolist()
        ]
        return list(dict.fromkeys([*best, *([self.label] if self.label >= 0 else [])]))

    def figure(self, names: dict[int, str]) -> dict[str, Any]:
        """Return the bars of these outputs."""
        shown = self.shown
        series = [(name, [float(values[output]) for output in shown]) for name, values in self.series.items()]
        right = shown.index(self.label) if self.label in shown else None
        return predictions_figure([names.get(output, f"output {output}") for output in shown], series, right=right)


def answers(desk: Desk, view: View, uploaded: str | None = None) -> Answers:
    """Return the answers to the chosen image.

    Raises:
        DataError: there is no such image, or it cannot be read.
        ArtifactError: the model is not known.
    """
    series = {"original": desk.seen(view, uploaded).logits.softmax(0)}
    for number in desk.shown(view):
        logits = desk.runs[number].logits(desk.normalised(desk.pixels(view, uploaded)))
        if logits is not None:
            series[desk.title(number)] = logits.softmax(0)
    if view.off:
        series["after ablation"] = desk.seen(view, uploaded, ablated=True).logits.softmax(0)
    label = -1 if view.image == UPLOAD else desk.bundle.sets[int(view.image.split(".")[0])].label
    return Answers(label, series)
