"""The decoupled network: a copy of a network whose filters are switched for each image by controlling modules.

Shapes: N images, B of them at a time, C filters of a layer.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from neurochains.decoupling.controller import REDUCTION, Controller
from neurochains.edit import can_be_controlled, control, original_names
from neurochains.errors import DataError, LayerError, SettingsError
from neurochains.network import Layer, Network, load_model
from neurochains.network.prepare import prepare

if TYPE_CHECKING:
    from neurochains.decoupling.dynamic import DynamicNetwork
    from neurochains.decoupling.states import States

__all__ = ["Answer", "Decoupled", "decouple", "default_layers"]

_BATCH = 64


@dataclass(frozen=True, slots=True)
class Answer:
    """What a decoupled network computes for B images.

    Attributes:
        logits: ``(B, outputs)``.
        codes: by layer, ``(B, C)``: 1 for a filter that is on, 0 for one that is off; between in training mode.
        means: by layer, ``(B, C)``: the mean of each filter's map before it is multiplied by its code.
    """

    logits: Tensor
    codes: dict[str, Tensor]
    means: dict[str, Tensor]


class _Origin:
    """The user's model and its trace, shared by all copies of a decoupled network and never a part of its state."""

    def __init__(self, network: Network, model: nn.Module) -> None:
        self.network = network
        self.model = model

    def __deepcopy__(self, memo: dict[int, Any]) -> _Origin:
        return self


class Decoupled(nn.Module):
    """A network whose filters are switched on and off for each image: ``(B, 3, H, W) -> (B, outputs)``.

    In eval mode, which it starts in, the codes are binary and deterministic; in training mode they are noisy and partly
    smooth, and batch norm is that of training. It is a copy: the model that it was made from is not touched.

    Attributes:
        layers: the names of the controlled layers, in order of execution.
        record: what is known about its training: settings, history, accuracy, states; JSON values.
    """

    def __init__(self, model: nn.Module, network: Network, layers: Sequence[Layer], *, keep_one: bool = False) -> None:
        super().__init__()
        self.layers = tuple(layer.name for layer in layers)
        self.keep_one = keep_one
        self.record: dict[str, Any] = {}
        self._origin = _Origin(network, model)
        made = {layer.name: Controller(layer.inputs, layer.units, keep_one=keep_one) for layer in layers}
        for controller in made.values():
            controller.to(network.device, network.dtype)
        self.body: fx.GraphModule = control(network, made)
        self.eval()

    @property
    def network(self) -> Network:
        """The traced original."""
        return self._origin.network

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return next(self.body.parameters()).device

    @property
    def controllers(self) -> dict[str, Controller]:
        """The controlling modules by layer name."""
        return {name: self.body.get_submodule(f"gate_{self.network.layer(name).index}") for name in self.layers}  # type: ignore[misc]

    @property
    def filters(self) -> dict[str, int]:
        """The number of filters of each controlled layer."""
        return {name: self.network.layer(name).units for name in self.layers}

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``(B, outputs)``."""
        return self.answer(images).logits

    def answer(self, images: Tensor) -> Answer:
        """Return the logits with the codes and mean outputs of each controlled layer, in the present mode.

        Raises:
            DataError: the images have not the shape that the network was traced with.
        """
        _check_shape(images, self.network)
        logits, codes, means = self.body(images.to(self.device))
        return Answer(logits, dict(zip(self.layers, codes, strict=True)), dict(zip(self.layers, means, strict=True)))

    def codes(self, images: Tensor, *, batch: int = _BATCH) -> dict[str, Tensor]:
        """Return the calculation path of each image: by layer ``(N, C)``, True where a filter is on; on the CPU.

        They are those of eval mode, whatever the present mode.
        """
        return {name: values.bool() for name, values in self._evaluated(images, batch).codes.items()}

    def predict(self, images: Tensor, *, batch: int = _BATCH) -> Tensor:
        """Return the logits ``(N, outputs)`` of eval mode, on the CPU, without gradients."""
        return self._evaluated(images, batch).logits

    def original(self, images: Tensor, *, batch: int = _BATCH) -> Tensor:
        """Return the logits ``(N, outputs)`` of the network that this was made from, on the CPU, without gradients."""
        _check_shape(images, self.network)
        with torch.no_grad():
            return torch.cat([self.network(part).float().cpu() for part in images.split(batch)])

    def states(self, images: Tensor, *, tolerance: float = 0.0, batch: int = _BATCH) -> States:
        """Return which filters are energetic, silent and dynamic on some images; see `states.measure_states`."""
        from neurochains.decoupling.states import measure_states

        return measure_states(self, images, tolerance=tolerance, batch=batch)

    def settle(self, states: States) -> Decoupled:
        """Return a copy in which silent filters are off for good, and energetic ones on for good.

        On images on which the states hold, it computes the same.
        """
        twin = copy.deepcopy(self)
        for name, controller in twin.controllers.items():
            verdict = states.energetic[name].to(torch.int8) - states.silent[name].to(torch.int8)
            controller.settled.copy_(torch.where(controller.settled == 0, verdict.to(self.device), controller.settled))
        return twin

    def dynamic(self, states: States | None = None) -> DynamicNetwork:
        """Return a module for inference that computes only the filters which are on for each image.

        It computes what this network computes in eval mode. Filters that are settled cost nothing: those off for good
        are cut out, those on for good have no gate.

        Args:
            states: settle these first, see `settle`; what the network computes then is that of the settled one.
        """
        from neurochains.decoupling.dynamic import DynamicNetwork

        return DynamicNetwork(self if states is None else self.settle(states))

    def detach_controllers(self) -> nn.Module:
        """Return the fine-tuned backbone, without controllers, in eval mode: a copy of the model with its weights.

        Where the trace changed what the model holds (weights that it standardises, for one), it is the traced graph.
        """
        own = self.body.state_dict()
        names = {name: origin for name, origin in original_names(self.network).items() if name in own}
        twin = copy.deepcopy(self._origin.model)
        held = dict(prepare(twin).state_dict(keep_vars=True))
        if all(origin in held for origin in names.values()):
            with torch.no_grad():
                for name, origin in names.items():
                    held[origin].copy_(own[name])
            return twin.eval()
        plain = control(self.network, {}).to(self.device)
        plain.load_state_dict({key: own[key] for key in plain.state_dict()})
        return _LogitsOf(plain).eval()

    def detach(self) -> nn.Module:
        """Return the model that this was made from: the very object, which was never changed."""
        return self._origin.model

    @contextmanager
    def surrogate_gradients(self) -> Iterator[None]:
        """Inside, gradients pass through the binary codes of eval mode as through the smooth ones.

        Without it a code has no gradient, and what follows gradients, such as an attack, sees the convolutions only.
        """
        before = {name: controller.surrogate for name, controller in self.controllers.items()}
        try:
            for controller in self.controllers.values():
                controller.surrogate = True
            yield
        finally:
            for name, controller in self.controllers.items():
                controller.surrogate = before[name]

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Return the folder that the network was saved to; see `storage.save_decoupled`."""
        from neurochains.decoupling.storage import save_decoupled

        return save_decoupled(self, folder, force=force)

    def _evaluated(self, images: Tensor, batch: int) -> Answer:
        if batch < 1:
            raise SettingsError(f"batch must be at least 1; got {batch}.")
        if not len(images):
            raise DataError(f"Wanted at least one image (N, C, H, W); got {tuple(images.shape)}.")
        with evaluating(self):
            parts = [self.answer(part) for part in images.split(batch)]
        return Answer(
            torch.cat([part.logits for part in parts]).float().cpu(),
            {name: torch.cat([part.codes[name].detach() for part in parts]).cpu() for name in self.layers},
            {name: torch.cat([part.means[name] for part in parts]).cpu() for name in self.layers},
        )

    def __repr__(self) -> str:
        info = self.network.info
        named = f" of {info.name}" if info is not None else ""
        return f"Decoupled{named}: {sum(self.filters.values()):,} filters in {len(self.layers)} layers are switched"


class _LogitsOf(nn.Module):
    """The logits of a controlled copy."""

    def __init__(self, body: fx.GraphModule) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``(B, outputs)``."""
        return self.body(images)[0]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Inside, a module is in eval mode and computes no gradients; afterwards each part is in its mode again."""
    modes = {part: part.training for part in module.modules()}
    try:
        with torch.no_grad():
            module.eval()
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def decouple(
    model: nn.Module | str,
    example: Tensor,
    *,
    layers: Sequence[str] | None = None,
    keep_one: bool = False,
    seed: int = 0,
    device: str | torch.device | None = None,
) -> Decoupled:
    """Return a copy of a network with a controlling module beside each of some convolutions; all filters start on.

    Args:
        model: any network that `Network.trace` follows, in eval mode, or its name. It is not changed.
        example: ``(B, C, H, W)``, as the model expects its images; only shape and type matter.
        layers: which, by dotted name or label; by default all that `default_layers` finds.
        keep_one: keep the likeliest filter of a layer on for an image that would switch all of them off, which leaves
            a network without shortcuts nothing to see.
        seed: of the controllers' initial weights.
        device: where it shall run; by default where the model is.

    Raises:
        LayerError: a name means no layer, or there is no layer to control.
        SettingsError: a layer cannot be controlled, or is too narrow.
        ModelError: the model cannot be traced; see `Network.trace`.
    """
    whole = load_model(model) if isinstance(model, str) else model
    network = Network.trace(whole, example, device=device)
    chosen = default_layers(network) if layers is None else _chosen(network, layers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Decoupled(whole, network, chosen, keep_one=keep_one)


def default_layers(network: Network) -> tuple[Layer, ...]:
    """Return the layers that are controlled by default: every convolution that reads at least four channels.

    With fewer, the controlling module would have nothing in its middle, which is why the first convolution of a network
    on colour images is never controlled. Projections beside a block are controlled like the block.

    Raises:
        LayerError: there is none.
    """
    found = tuple(layer for layer in network.layers if can_be_controlled(layer) and layer.inputs >= REDUCTION)
    if not found:
        known = ", ".join(layer.name for layer in network.layers)
        raise LayerError(
            f"Wanted a network with a convolution that reads at least {REDUCTION} channels; its layers: {known}."
        )
    return found


def _chosen(network: Network, names: Sequence[str]) -> tuple[Layer, ...]:
    """Return the layers of some names, in order of execution, each once."""
    if isinstance(names, str) or not len(names):
        raise SettingsError(f"layers must be names of at least one layer, such as ['layer1.0.conv1']; got {names!r}.")
    wanted = {network.layer(name).name for name in names}
    chosen = tuple(layer for layer in network.layers if layer.name in wanted)
    for layer in chosen:
        if not can_be_controlled(layer):
            raise SettingsError(
                f"{layer.name} ({layer.kind}, {layer.role}) cannot be controlled: only convolutions whose filters have "
                "maps (B, C, H, W) can."
            )
        if layer.inputs < REDUCTION:
            raise SettingsError(
                f"{layer.name} is too narrow to be controlled: it reads {layer.inputs} channels, and its controlling "
                f"module has a {REDUCTION}th of them in its middle, so at least {REDUCTION} are needed. Leave it out."
            )
    return chosen


def _check_shape(images: Tensor, network: Network) -> None:
    if tuple(images.shape[1:]) != network.input_shape:
        wanted = ", ".join(map(str, network.input_shape))
        raise DataError(f"The network was traced for inputs (B, {wanted}); got {tuple(images.shape)}.")
