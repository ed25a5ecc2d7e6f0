"""What both networks say about images, and which images stand for a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neurochains.chains import Chain
from neurochains.chains.objectives import OBJECTIVES, find_objective
from neurochains.data import Task
from neurochains.measures import Fidelity, measure_outputs, run_scores, run_task
from neurochains.pictures.figures import display
from neurochains.report.content import Answer, ImageView
from neurochains.report.words import number

__all__ = [
    "Answers",
    "answer",
    "are_classes",
    "clearest",
    "divergence_name",
    "in_turn",
    "objective_of",
    "rows_by_class",
    "unit_noun",
]

WORDS = {"kl": "KL", "mse": "squared error", "cosine": "cosine distance"}


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """The outputs ``(N, K)`` of both networks on a task's images, and how far they are apart."""

    task: Task
    original: Tensor
    reduced: Tensor
    fidelity: Fidelity

    def view(self, row: int) -> ImageView:
        """Return one image with what is said about it."""
        labels = self.task.labels
        label = -1 if labels is None else int(labels[row])
        agree = self.fidelity.per_image.agree
        classes = agree is not None
        return ImageView(
            name=self.task.names[row],
            pixels=display(self.task.pixels[row].cpu().numpy()),
            truth=self.task.label_name(label) if classes and label >= 0 else None,
            original=_answer(self.task, self.original[row], classes=classes),
            reduced=_answer(self.task, self.reduced[row], classes=classes),
            divergence=float(self.fidelity.per_image.divergence[row]),
            kept=None if agree is None else bool(agree[row]),
        )


def answer(chain: Chain, task: Task, patches: Tensor | None = None) -> Answers:
    """Return what both networks of a chain say about a task's images; those held out are not looked at.

    With `patches` ``(N, L, T)`` the sub-network reads these tokens of each image alone; without, all.
    """
    alone = task.subset(range(len(task)))
    original = run_task(chain.network, _given(alone)).given.cpu()
    if patches is None:
        reduced = run_scores(chain.network, _given(alone), chain.subnetwork).given.cpu()
    else:
        with torch.no_grad():
            reduced = chain.compact()(chain.network.check(task.images), patches.to(chain.network.device)).cpu()
    labels = None if alone.labels is None else alone.labels.cpu()
    return Answers(alone, original, reduced, measure_outputs(original, reduced, labels, objective=objective_of(chain)))


def objective_of(chain: Chain) -> str:
    """Return the name of the objective that the chain was made with; ``"kl"`` where it is none of ours."""
    name = chain.settings.get("objective", "kl")
    return name if name in OBJECTIVES else "kl"


def are_classes(chain: Chain) -> bool:
    """Return whether the outputs of a chain's network stand for classes."""
    others = (OBJECTIVES["mse"], OBJECTIVES["cosine"])
    return chain.network.outputs > 1 and find_objective(objective_of(chain)) not in others


def divergence_name(chain: Chain) -> str:
    """Return what the divergence is called."""
    return WORDS.get(objective_of(chain), "divergence")


def unit_noun(chain: Chain) -> str:
    """Return what the scored units of a chain are called."""
    return "units" if any(layer.name in chain.scores for layer in chain.network.heads) else "filters"


def rows_by_class(answers: Answers) -> dict[int, tuple[int, ...]]:
    """Return the images of each class: by label; without labels, by what the original network predicts."""
    known = answers.task.by_class()
    if known:
        return known
    rows: dict[int, list[int]] = {}
    for row, label in enumerate(answers.original.argmax(-1).tolist()):
        rows.setdefault(label, []).append(row)
    return {label: tuple(several) for label, several in rows.items()}


def in_turn(answers: Answers, most: int) -> list[int]:
    """Return the rows of images to show, at most so many, taken from the classes in turn and put together by class."""
    rows = [list(several) for several in rows_by_class(answers).values()]
    inside = {row for several in rows for row in several}
    rows.append([row for row in range(len(answers.task)) if row not in inside])
    chosen: list[int] = []
    while len(chosen) < most and any(rows):
        chosen += [several.pop(0) for several in rows if several]
    places = {row: place for place, several in enumerate(rows_by_class(answers).values()) for row in several}
    return sorted(chosen[:most], key=lambda row: (places.get(row, len(places)), row))


def clearest(answers: Answers, label: int, rows: Sequence[int]) -> int:
    """Return the image of a class that the original network is surest of."""
    return max(rows, key=lambda row: float(answers.original[row].softmax(-1)[label]))


def _given(task: Task) -> Task:
    """Return a task without what it holds out."""
    return Task(task.images, task.labels, task.class_names, names=task.names, pixels=task.pixels, digests=task.digests)


def _answer(task: Task, outputs: Tensor, *, classes: bool) -> Answer:
    if not classes:
        shown = ", ".join(number(value) for value in outputs[:3].tolist())
        return Answer(shown + (f", … ({len(outputs)} outputs)" if len(outputs) > 3 else ""))
    probabilities = torch.softmax(outputs.double(), -1)
    label = int(probabilities.argmax())
    return Answer(task.label_name(label), float(probabilities[label]))
