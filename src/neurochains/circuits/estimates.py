"""How large a bundle becomes, and how long it takes: judged before anything is written, from a few images."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from neurochains.circuits.bundle_document import Document
from neurochains.circuits.bundle_numbers import Spans
from neurochains.circuits.bundle_sets import SetWriter
from neurochains.circuits.image_sets import ImageSet
from neurochains.data import Task

__all__ = ["Estimate", "estimate", "finishing_seconds"]

_SAMPLE = 4  # images that times are measured on
_PICTURES = 8  # images that sizes are measured on
_MARGIN = 1.1  # pictures of other sets may be larger, and take longer
_SECONDS_A_BYTE = 8e-9  # of the last part: everything is read again, and digested
_UMAP_SECONDS = (40.0, 1.5)  # to begin with, and for each layer
_SECONDS_A_PAIR = 6e-7  # of filters of one layer, which repel each other
_BYTES_AN_IMAGE = 80  # of its digest, as text


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a preparation comes to, known before it starts.

    `bytes` is the size of the finished bundle, `seconds` the time still to go, `done` how many sets are there already.
    """

    sets: int
    images: int
    filters: int
    kernels: int
    done: int
    bytes: int
    seconds: float


def estimate(
    writer: SetWriter, document: Document, sets: Sequence[ImageSet], done: Sequence[bool], first: Task
) -> Estimate:
    """Return the estimate of a preparation.

    Args:
        writer: what will make the sets.
        document: of the bundle.
        sets: all of them.
        done: which of them are there already.
        first: the images of the first set.
    """
    images = [len(known.images) for known in sets]
    todo = [count for count, there in zip(images, done) if not there]
    fixed, each = _seconds(writer, sets[0], first) if todo else (0.0, 0.0)
    return Estimate(
        sets=len(sets),
        images=sum(images),
        filters=writer.spans.filters,
        kernels=writer.spans.kernels,
        done=sum(done),
        bytes=_bytes(writer, document, images, first),
        seconds=_MARGIN * (fixed * len(todo) + each * sum(todo)) + finishing_seconds(document),
    )


def finishing_seconds(document: Document) -> float:
    """Return about how long it takes to make what needs all sets."""
    layers = document.scored
    umap = document.settings["projection"] == "umap"
    embedding = _UMAP_SECONDS[0] + _UMAP_SECONDS[1] * len(layers) if umap else 0.0
    spreading = sum(_SECONDS_A_PAIR * layer.units**2 for layer in layers)
    numbers = Spans(layers).bytes_of_a_set(0, 0, kernels=document.settings["kernels"] is True)
    return embedding + spreading + _SECONDS_A_BYTE * numbers * len(document.sets)


def _seconds(writer: SetWriter, known: ImageSet, first: Task) -> tuple[float, float]:
    """Return how long a set takes besides its images, and each image."""
    few = first.subset(range(min(_SAMPLE, len(first))))
    writer.measure(few.subset([0]))  # the first time takes longer
    one, several = (_timed(lambda task=task: _part(writer, task)) for task in (few.subset([0]), few))
    reading = _timed(known.load) / len(first)
    mean = several / len(few)
    each = (several - one) / (len(few) - 1) if len(few) > 1 else mean
    each = min(max(each, 0.3 * mean), mean)  # times jump
    return max(several - each * len(few), 0.0), each + reading


def _part(writer: SetWriter, task: Task) -> None:
    writer.measure(task)
    writer.encode(task)


def _bytes(writer: SetWriter, document: Document, images: Sequence[int], first: Task) -> int:
    """Return the size of the whole bundle; that of pictures is judged by those of the first set."""
    spans, wishes = writer.spans, writer.wishes
    sample = first.subset(range(min(_PICTURES, len(first))))
    picture = _MARGIN * len(writer.encode(sample)["pictures"]) / len(sample)
    sets = sum(spans.bytes_of_a_set(count, wishes.patches, kernels=wishes.kernels) for count in images)
    overall = spans.bytes_of_a_set(0, 0, kernels=wishes.kernels) + 4 * spans.filters * (
        len(images) + 5 * min(sum(images), wishes.patches) + 4
    )
    graph = sum(2 * math.prod((*layer.shape, *layer.kernel)) + 8 * layer.inputs for layer in document.scored)
    texts = len(json.dumps(document.to_json(), indent=1)) + (_BYTES_AN_IMAGE * 2 + picture) * sum(images)
    return round(sets + overall + graph + texts)


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
