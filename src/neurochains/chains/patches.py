"""Patch chains: for each image, the few patches in each block that keep a vision transformer's answer.

A patch that is dropped in one block is gone in all later ones, so what is searched is one number for each image and
patch, its *depth*: how many blocks read it. Images are independent, and each has the whole budget to itself.

The budget method:

1. Weights of 1 stand at the attention logits of the patches that are there. One run of the network without the others
   and a few passes back give, for all images at once, the derivative of each log-probability by every weight, and with
   it, to second order, the divergence that each *move* would cost: setting a patch's depth from d to some d' < d.
2. Moves are ordered by cost for each block saved. Several shares of them are tried on the hard network, in one batch;
   each image takes the largest share that keeps it within its budget of this round. The budget grows from round to
   round, as long as there is something to gain. An image that can take none waits for the next.
3. Then costs are measured instead of estimated, and 2 goes on with the moves that fit by themselves: of each image at
   first the most promising ones, then all, until there is none that fits. The result is *1-minimal*.

Shapes: N images, L blocks, P patches, K outputs, M trials.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neurochains.chains.objectives import kl_divergence
from neurochains.edit.token_steps import dropping
from neurochains.edit.tokens import TokenNetwork
from neurochains.errors import SettingsError
from neurochains.network.network import Network

__all__ = ["PatchResult", "PatchRound", "PatchSettings", "depths_to_kept", "find_patches", "kept_tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchSettings:
    """How the budget method searches.

    Attributes:
        ramp: the share of the budget that each round of estimated costs may use; the last one as often as a round
            still drops a share `gain` of what is left, at most `estimated` times.
        shares: of the blocks that could be saved, tried in each round.
        classes: how many of an image's likeliest classes the estimate looks at.
        temperature: by which logits are divided in the estimate, so that sure answers still have a slope.
        measured: at most so many rounds of measured costs.
        promising: moves of each image that are measured as long as one of them fits.
        tokens: about how many tokens run in one batch.
    """

    ramp: tuple[float, ...] = (0.2, 0.35, 0.5, 0.6, 0.7, 0.8)
    gain: float = 0.05
    estimated: int = 24
    shares: tuple[float, ...] = (0.5, 0.3, 0.15, 0.07)
    classes: int = 3
    temperature: float = 2.0
    measured: int = 40
    promising: int = 48
    tokens: int = 8192


@dataclass(frozen=True, slots=True)
class PatchRound:
    """One round: the share of patches dropped over all blocks and images, and the mean divergence, after it."""

    step: int
    dropped: float
    divergence: float
    seconds: float


@dataclass(frozen=True)
class PatchResult:
    """The patches that were found.

    Attributes:
        kept: ``(N, L, P)`` bool.
        divergence: ``(N,)`` of the hard network, whose patches are really dropped.
        agrees: ``(N,)`` bool, whether it predicts what the original does, or the network with all patches.
        minimal: ``(N,)`` bool, whether no single patch can leave any block (and those after it) within the budget.
        history: one entry for each round.
        seconds: of the search.
    """

    kept: Tensor
    divergence: Tensor
    agrees: Tensor
    minimal: Tensor
    history: Sequence[PatchRound] = ()
    seconds: float = 0.0

    @property
    def dropped(self) -> Tensor:
        """``(N,)``: the share of patches dropped over all blocks."""
        return 1 - self.kept.double().mean((1, 2))


def depths_to_kept(depths: Tensor, blocks: int) -> Tensor:
    """Return which patches are kept, ``(N, L, P)`` bool, for depths ``(N, P)``."""
    return torch.arange(blocks, device=depths.device)[None, :, None] < depths[:, None, :]


def kept_tokens(kept: Tensor, special: int) -> Tensor:
    """Return ``(N, L, T)`` bool for all tokens: the special ones come first and are always kept."""
    return torch.cat([kept.new_ones(*kept.shape[:2], special), kept], 2)


def find_patches(
    network: Network | TokenNetwork,
    images: Tensor,
    *,
    fidelity: float = 0.05,
    original: Tensor | None = None,
    settings: PatchSettings | None = None,
    report: Callable[[PatchRound], None] | None = None,
) -> PatchResult:
    """Return the patches that each image needs: its divergence stays within the budget, its prediction the same.

    Args:
        network: a vision transformer.
        images: ``(N, C, H, W)``.
        fidelity: the divergence (KL, in nats) that each image may have; so the mean has no more.
        original: ``(N, K)``, the logits to keep; by default those of the network with all patches. Where these differ
            already, each image may have as much more than it has as keeps the mean within the fidelity.
        settings: of the search.
        report: called after each round.

    Raises:
        ModelError: the network has no tokens that could be dropped.
        SettingsError: the fidelity is no positive number.
    """
    if not 0 < fidelity < float("inf"):
        raise SettingsError(f"A fidelity is a positive number, the divergence allowed; got {fidelity!r}.")
    tokens = network if isinstance(network, TokenNetwork) else TokenNetwork(network)
    return _Search(tokens, images, fidelity, original, settings or PatchSettings(), report).run()


@dataclass
class _State:
    """Where a search is: the depths ``(N, P)``, their divergence ``(N,)``, and which images are done."""

    depths: Tensor
    divergence: Tensor
    done: Tensor
    history: list[PatchRound] = field(default_factory=list)


class _Search:
    def __init__(
        self,
        tokens: TokenNetwork,
        images: Tensor,
        fidelity: float,
        original: Tensor | None,
        settings: PatchSettings,
        report: Callable[[PatchRound], None] | None,
    ) -> None:
        self._began = time.perf_counter()
        self._tokens, self._fidelity, self._settings, self._report = tokens, fidelity, settings, report
        self._blocks, self._patches = len(tokens.tokens.blocks), tokens.tokens.patches
        self._least = tokens.tokens.least
        with torch.no_grad():
            self._stream = torch.cat([tokens.embed(part) for part in images.split(self._batch(self._patches))])
            whole = torch.full((len(images), self._patches), self._blocks)
            logits = self._logits(whole, self._everything)
        self._original = logits if original is None else original.to(tokens.device)
        self._given = logits.argmax(-1)
        self._start = kl_divergence(logits, self._original).cpu()
        self._state = _State(whole, self._start.clone(), torch.zeros(len(images), dtype=torch.bool))

    def run(self) -> PatchResult:
        """Return what is found."""
        state = self._state
        self._by_estimates()
        self._by_measures()
        divergence, agrees = self._judged(state.depths, self._everything)
        kept = depths_to_kept(state.depths, self._blocks)
        return PatchResult(kept, divergence, agrees, state.done, state.history, time.perf_counter() - self._began)

    def _by_estimates(self) -> None:
        ramp, state = self._settings.ramp, self._state
        for count in range(self._settings.estimated):
            before = int(state.depths.sum())
            self._round(self._estimated(), self._budget(ramp[min(count, len(ramp) - 1)]))
            if count >= len(ramp) and int(state.depths.sum()) > (1 - self._settings.gain) * before:
                break

    def _by_measures(self) -> None:
        state = self._state
        few = torch.ones_like(state.done)
        for _ in range(self._settings.measured):
            if bool(state.done.all()):
                break
            costs = self._measured(self._promising() | ~few[:, None, None])
            costs[costs > self._budget()[:, None, None]] = float("inf")  # the cheapest for its blocks must fit
            stuck = costs.isinf().flatten(1).all(1)
            state.done |= stuck & ~few
            few &= ~stuck
            self._round(costs - state.divergence[:, None, None], self._budget())

    def _budget(self, share: float = 1.0) -> Tensor:
        """Return the divergence ``(N,)`` that each image may have, with a share of what the patches may use."""
        return self._start + share * (self._fidelity - self._start.mean())

    # --- what moves cost ----------------------------------------------------------------------------------------------

    def _estimated(self) -> Tensor:
        """Return the estimated rise of the divergence for each move, ``(N, P, L)``: to depth 0 .. L - 1."""
        size = self._batch(int(self._state.depths.gt(0).sum(1).max()))
        return torch.cat([self._slopes(part) for part in self._everything.split(size)])

    def _slopes(self, rows: Tensor) -> Tensor:
        depths = self._state.depths[rows]
        kept = depths_to_kept(depths, self._blocks).to(self._stream.device)
        weights = kept.to(self._stream.dtype).requires_grad_()
        logits = self._tokens.read(self._stream[rows], dropping(kept, weights))
        if not logits.requires_grad:  # what is left of the network reads no patch
            return torch.zeros_like(_behind(weights.detach())).transpose(1, 2).cpu()
        logs = (logits / self._settings.temperature).log_softmax(-1)
        share, likeliest = logs.detach().exp().topk(min(self._settings.classes, logs.shape[-1]))
        divergence = kl_divergence(logits, self._original[rows]).sum()
        (slope,) = torch.autograd.grad(divergence, weights, retain_graph=True)
        total = -_behind(slope)
        for place in range(likeliest.shape[1]):
            chosen = logs.gather(1, likeliest[:, place : place + 1]).sum()
            (slope,) = torch.autograd.grad(chosen, weights, retain_graph=place + 1 < likeliest.shape[1])
            total += 0.5 * share[:, place, None, None] * _behind(slope).square()
        return total.transpose(1, 2).cpu()

    def _promising(self) -> Tensor:
        """Return the moves ``(N, P, L)`` of each image that cost least for each block saved, by estimate."""
        saved = self._state.depths[..., None] - torch.arange(self._blocks)
        ratio = torch.where(saved > 0, self._estimated() / saved.clamp_min(1), float("inf")).flatten(1)
        limit = ratio.kthvalue(min(self._settings.promising, ratio.shape[1])).values[:, None]
        return (ratio <= limit).view_as(saved)

    def _measured(self, asked: Tensor) -> Tensor:
        """Return the divergence after each move asked for, ``(N, P, L)``; infinite where the prediction changes."""
        state = self._state
        levels = torch.arange(self._blocks)
        possible = (levels < state.depths[..., None]) & ~state.done[:, None, None] & self._allowed() & asked
        costs = torch.full(possible.shape, float("inf"))
        rows, patches, depth = possible.nonzero(as_tuple=True)
        if not len(rows):
            return costs
        trials = state.depths[rows]
        trials[torch.arange(len(rows)), patches] = depth
        divergence, agrees = self._judged(trials, rows)
        costs[rows, patches, depth] = torch.where(agrees, divergence, float("inf"))
        return costs

    def _allowed(self) -> Tensor:
        """Return which moves ``(N, P, L)`` leave a patch where something reads patches alone."""
        levels = torch.arange(self._blocks)
        if not self._least:
            return torch.ones(1, 1, self._blocks, dtype=torch.bool)
        long = self._state.depths >= self._least
        last = long & (long.sum(1, keepdim=True) == 1)
        return ~last[..., None] | (levels >= self._least)

    # --- taking moves -------------------------------------------------------------------------------------------------

    def _round(self, costs: Tensor, budget: Tensor) -> None:
        """Let each image take the largest share of the moves, cheapest first, that keeps it within its budget."""
        state = self._state
        order, target = self._ranked(costs)
        shares = sorted(self._settings.shares, reverse=True)
        trials = torch.stack([self._taken(order, target, share) for share in (*shares, 0.0)], 1)
        count = trials.shape[1]
        rows = self._everything.repeat_interleave(count)
        divergence, agrees = self._judged(trials.flatten(0, 1), rows)
        fits = agrees.view(-1, count) & (divergence.view(-1, count) <= budget[:, None])
        changed = (trials != state.depths[:, None]).any(-1)
        best = torch.where(fits & changed, torch.arange(count, 0, -1), 0)
        value, place = best.max(1)
        moved = value > 0
        state.depths[moved] = trials[moved, place[moved]]
        state.divergence[moved] = divergence.view(-1, count)[moved, place[moved]]
        self._tell()

    def _ranked(self, costs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the patches of each image, cheapest for each block saved first, and the depth each should go to."""
        depths = self._state.depths
        saved = depths[..., None] - torch.arange(self._blocks)
        ratio = torch.where((saved > 0) & self._allowed(), costs / saved.clamp_min(1), float("inf"))
        least, target = ratio.min(-1)
        return least.argsort(1), torch.where(least.isfinite(), target, depths)

    def _taken(self, order: Tensor, target: Tensor, share: float) -> Tensor:
        """Return the depths after the moves that come first and save up to a share of all; at least one move."""
        depths = self._state.depths
        saved = (depths - target).gather(1, order).cumsum(1)
        goal = (share * depths.sum(1, keepdim=True)).clamp_min(1)
        first = torch.arange(order.shape[1]) == 0
        taken = ((saved <= goal) | first).scatter(1, order, (saved <= goal) | first)
        result = torch.where(taken, target, depths)
        return self._protected(result)

    def _protected(self, depths: Tensor) -> Tensor:
        """Keep the patch of each image that is there longest where attention would have nothing else to read."""
        if not self._least:
            return depths
        bare = (depths >= self._least).sum(1) == 0
        longest = self._state.depths.argmax(1)
        depths[bare, longest[bare]] = self._state.depths[bare, longest[bare]]
        return depths

    # --- running ------------------------------------------------------------------------------------------------------

    @property
    def _everything(self) -> Tensor:
        return torch.arange(len(self._stream))

    def _batch(self, patches: int) -> int:
        return max(1, self._settings.tokens // (patches + self._tokens.tokens.special + 1))

    def _judged(self, depths: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the divergence ``(M,)`` of trials, and whether each keeps the prediction, or that with all patches."""
        with torch.no_grad():
            logits, original = self._logits(depths, rows), self._original[rows]
            predicted = logits.argmax(-1)
            same = (predicted == original.argmax(-1)) | (predicted == self._given[rows])
            return kl_divergence(logits, original).cpu(), same.cpu()

    def _logits(self, depths: Tensor, rows: Tensor) -> Tensor:
        """Return the logits ``(M, K)`` of trials on the hard network; those of about one size run together."""
        order = depths.sum(1).argsort()
        parts, start = [], 0
        while start < len(order):
            size = self._batch(int((depths[order[start : start + 4096]] > 0).sum(1).max()))
            part = order[start : start + size]
            kept = depths_to_kept(depths[part], self._blocks).to(self._stream.device)
            parts.append(self._tokens.read(self._stream[rows[part]], dropping(kept)))
            start += size
        logits = torch.cat(parts)
        return torch.empty_like(logits).index_copy_(0, order.to(logits.device), logits)

    def _tell(self) -> None:
        state = self._state
        dropped = 1 - float(state.depths.double().mean()) / self._blocks
        seconds = time.perf_counter() - self._began
        entry = PatchRound(len(state.history), dropped, float(state.divergence.mean()), seconds)
        state.history.append(entry)
        if self._report:
            self._report(entry)


def _behind(slopes: Tensor) -> Tensor:
    """Return, for slopes ``(N, L, P)``, their sums over each block and all behind it."""
    return slopes.flip(1).cumsum(1).flip(1)
