"""What a circuit's target answers to: feature visualisation on the circuit's kernels alone.

After the re-visualisation of the VISCNN paper (its Fig. 9): a circuit that explains a filter shows the same picture.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from neurochains.circuits import SIZES, Circuit, Target, circuit, circuits_or_none
from neurochains.data import Task
from neurochains.errors import SettingsError
from neurochains.network import Network
from neurochains.pictures.circuit_figures import CircuitPicture
from neurochains.pictures.visualise import Visualisation, visualise

__all__ = ["revisualise", "visualise_circuit"]


def visualise_circuit(
    circuit: Circuit,
    *,
    steps: int = 256,
    seed: int = 0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Visualisation:
    """Return the one picture that the target answers to most in its circuit, with the value that it reached there.

    Args:
        circuit: of a filter, a logit or a direction.
        steps: of gradient ascent.
        seed: of its start and its transforms: the same start for all circuits of a target.
        mean: of each channel, subtracted from pixels in [0, 1]; by default as the model says.
        std: of each channel, dividing; by default as the model says.

    Raises:
        SettingsError: an option has a value it cannot have, or mean and std are not known.
    """
    info = circuit.network.info
    known = None if info is None else info.preprocess
    average, deviation = mean or (known and known.mean), std or (known and known.std)
    if average is None or deviation is None:
        raise SettingsError("The model does not say how its images are normalised. Pass mean= and std=.")

    def maps(images: Tensor) -> Tensor:
        found = circuit.run(images)
        return found.unsqueeze(1) if found.ndim == 3 else found  # a layer of one unit

    height, width = circuit.network.input_shape[1:]
    device = circuit.network.device
    return visualise(maps, [0], (height, width), mean=average, std=deviation, steps=steps, seed=seed, device=device)


def revisualise(
    network: Network,
    task: Task,
    *,
    target: str | Target,
    sizes: Sequence[float] = SIZES,
    methods: Sequence[str] = ("budget", "random", "worst"),
    steps: int = 256,
    seed: int = 0,
) -> tuple[CircuitPicture, dict[str, dict[float, CircuitPicture]]]:
    """Return what a target answers to in the whole network, and in its circuits by method and size.

    The correlations beside the pictures are of the images that the task holds out, or else of the task's own.

    Args:
        network: the traced network.
        task: the images to find circuits on.
        target: what the circuits are of.
        sizes: fractions of the kernels.
        methods: names of methods.
        steps: of gradient ascent.
        seed: of everything drawn at random.

    Raises:
        SettingsError: an option has a value it cannot have.
        LayerError: there is no such layer or filter.
    """
    whole = _pictured(circuit(network, task, target=target, keep=1.0, seed=seed), steps, seed)
    rows = {}
    for method in methods:
        found = circuits_or_none(network, task, method, target=target, keep=sizes, seed=seed)
        rows[method] = {size: _pictured(made, steps, seed) for size, made in found.items()}
    return whole, rows


def _pictured(made: Circuit | None, steps: int, seed: int) -> CircuitPicture:
    if made is None:
        return CircuitPicture(None)
    seen = visualise_circuit(made, steps=steps, seed=seed)
    known = made.metrics.get("held_out") or made.metrics
    return CircuitPicture(seen.images[0], float(seen.reached[0]), known["pearson"])
