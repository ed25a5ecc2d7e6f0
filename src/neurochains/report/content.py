"""What a report shows, as plain data: words, numbers and pictures (uint8 ``(H, W, 3)``); nothing is left to compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from neurochains.pictures import ArchitectureView

__all__ = [
    "Answer",
    "ChainView",
    "ClassView",
    "Fact",
    "FilterView",
    "HeadView",
    "HeadsView",
    "ImageView",
    "LayerView",
    "Likeness",
    "MapsView",
    "MeasureRow",
    "Measures",
    "Origin",
    "PatchView",
    "Report",
    "SizeRow",
    "SmoeView",
    "StudyView",
    "UnitRow",
]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a network says about an image: a class with its probability, or words where outputs are no classes."""

    text: str
    probability: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ImageView:
    """An image with what both networks say about it; `kept` is None where outputs are no classes."""

    name: str
    pixels: np.ndarray
    truth: str | None
    original: Answer
    reduced: Answer
    divergence: float
    kept: bool | None


@dataclass(frozen=True, slots=True, eq=False)
class FilterView:
    """One filter of a chain. `share` is its part of what speaks for the class in the next step."""

    label: str
    name: str  # dotted
    score: float
    share: float
    visual: np.ndarray | None  # what it answers to most
    peak: float | None  # largest value on its map there
    largest: float  # largest value on its map in the data
    heatmaps: tuple[np.ndarray, ...]  # one for each sample; none without rows and columns
    crops: tuple[np.ndarray, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ChainView:
    """One chain of a class, from the input to its logit."""

    number: int
    entry: str | None  # the input channel
    product: float  # of all shares
    steps: tuple[FilterView, ...]

    @property
    def words(self) -> str:
        """The filters in a row, as text."""
        return " > ".join(step.label for step in self.steps)


@dataclass(frozen=True, slots=True, eq=False)
class ClassView:
    """A class with the images that its chains are shown on."""

    name: str
    images: int
    samples: tuple[ImageView, ...]
    chains: tuple[ChainView, ...]


@dataclass(frozen=True, slots=True, eq=False)
class MapsView:
    """The SMOE maps ``(h, w)`` in [0, 1] of one image, layer by layer, in both networks."""

    name: str
    pixels: np.ndarray
    original: tuple[np.ndarray, ...]
    reduced: tuple[np.ndarray, ...]


@dataclass(frozen=True, slots=True, eq=False)
class SmoeView:
    """SMOE maps of some images at the same layers."""

    layers: tuple[str, ...]
    images: tuple[MapsView, ...]


@dataclass(frozen=True, slots=True, eq=False)
class PatchView:
    """The patches of one image, block by block.

    `kept` is ``(L, T)`` bool, the attributions ``(L, T, T)`` of the tokens in both networks, None where they cannot be
    followed; `grid` has the rows and columns of patches, the special tokens come before them.
    """

    name: str
    pixels: np.ndarray
    kept: np.ndarray
    reduced: np.ndarray | None
    original: np.ndarray | None
    grid: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class HeadView:
    """One kept head; `heatmaps` show what the class token reads through it, or all patches do, on each sample."""

    label: str
    score: float
    heatmaps: tuple[np.ndarray, ...]


@dataclass(frozen=True, slots=True, eq=False)
class HeadsView:
    """The kept heads in order of execution, of `total`, on some samples with their names."""

    samples: tuple[tuple[str, np.ndarray], ...]
    heads: tuple[HeadView, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Fact:
    """One of the large figures at the top."""

    value: str
    label: str


@dataclass(frozen=True, slots=True)
class MeasureRow:
    """One measure of the chain and its controls: a text for each column, and what it means."""

    name: str
    meaning: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SizeRow:
    """What is kept of something, out of how much."""

    name: str
    kept: str
    of: str
    share: str


@dataclass(frozen=True, slots=True)
class Measures:
    """All that was measured.

    Attributes:
        columns: the chain and its controls, by name, with what each is.
        given: measures on the task's images.
        held_out: the same on the images held out; empty without.
        held_out_images: how many these are.
        sizes: what is kept.
        compared: for the figure of controls: measure -> network -> value.
        per_image: for each set of images the divergence of each.
        divergence: what the divergence is called.
        budget: the divergence that was asked for.
        scores: of the filters that were left out in turn.
        left_out: the divergence without each of them.
        correlations: of these two.
        correlations_drop: of the scores and the loss of probability.
    """

    columns: Mapping[str, str]
    given: tuple[MeasureRow, ...]
    held_out: tuple[MeasureRow, ...]
    held_out_images: int
    sizes: tuple[SizeRow, ...]
    compared: Mapping[str, Mapping[str, float]]
    per_image: Mapping[str, tuple[float, ...]]
    divergence: str
    budget: float | None
    scores: tuple[float, ...]
    left_out: tuple[float, ...]
    correlations: Mapping[str, float]
    correlations_drop: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class UnitRow:
    """One kept filter; `left_out` is the divergence without it, None where it was not measured."""

    label: str
    name: str
    score: float
    left_out: float | None


@dataclass(frozen=True, slots=True)
class LayerView:
    """A layer with its kept filters."""

    label: str
    name: str
    total: int
    units: tuple[UnitRow, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Settings, provenance and how to do it again."""

    settings: tuple[tuple[str, str], ...]
    provenance: tuple[tuple[str, str], ...]
    digests: tuple[tuple[str, str], ...]
    command: str
    python: str
    remark: str


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike an image is to each class, layer by layer, from 0 to 1."""

    layers: tuple[str, ...]
    similarity: Mapping[str, tuple[float, ...]]
    usual: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class StudyView:
    """An image that was not used, beside a class: where its way parts from that of the class."""

    image: ImageView
    beside: str  # the class it is held against
    likeness: Likeness | None
    classes: tuple[ClassView, ...]  # the first chain of each, on a sample of the class and on this image
    smoe: SmoeView | None


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """A whole report."""

    title: str
    model: str
    created: str
    verdict: str
    facts: tuple[Fact, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    noun: str  # what its units are called
    architecture: ArchitectureView | None  # None where patches alone were searched
    patches: tuple[PatchView, ...]
    heads: HeadsView | None
    images: tuple[ImageView, ...]
    images_of: int
    classes: tuple[ClassView, ...]
    classes_of: int
    visual_steps: int
    smoe: SmoeView | None
    measures: Measures
    layers: tuple[LayerView, ...]
    origin: Origin
    studies: tuple[StudyView, ...]
    version: str

    @property
    def tells_chains(self) -> bool:
        """Whether chains are shown; of heads and hidden units only if there are some, as none leads through heads."""
        return self.architecture is not None and (self.heads is None or any(view.chains for view in self.classes))
