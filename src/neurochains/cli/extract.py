"""`neurochains extract`: the smallest sub-network that keeps a model's answers on some images, found and saved."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurochains.cli import options as o
from neurochains.cli.console import results_console, tell, working, write_json
from neurochains.cli.models import ModelChoice, check_device
from neurochains.cli.places import check_folder
from neurochains.cli.progress import extraction_progress
from neurochains.cli.summary import metrics_tables, verdict
from neurochains.cli.values import given, one_target

if TYPE_CHECKING:
    from torch import nn

    from neurochains.chains import Chain
    from neurochains.data import Task

__all__ = ["command_line", "extract", "show_chain"]

_MANY = 200


def extract(
    model: o.Model,
    images: o.Images,
    out: o.OutFolder,
    weights: o.Weights = None,
    trust_pickle: o.TrustPickle = False,
    random_weights: o.RandomWeights = False,
    input_size: o.InputSize = None,
    mean: o.Mean = None,
    std: o.Std = None,
    device: o.Device = None,
    classes: o.Classes = None,
    per_class: o.PerClass = None,
    held_out: o.HeldOut = 0,
    fidelity: o.Fidelity = None,
    size: o.Size = None,
    agreement: o.Agreement = None,
    method: o.Method = o.MethodName.budget,
    effort: o.Effort = o.EffortName.quick,
    objective: o.Objectives = o.ObjectiveName.kl,
    score_range: o.ScoreRanges = o.ScoreRange.unbounded,
    gates: o.Gates = None,
    units: o.Units = None,
    steps: o.Steps = None,
    refit: o.Refit = None,
    lam: o.Lam = None,
    single_image: o.SingleImage = False,
    seed: o.Seed = 0,
    controls: o.Controls = True,
    force: o.Force = False,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Find the smallest sub-network that keeps a model's answers on your images."""
    target = one_target(fidelity=fidelity, size=size, agreement=agreement)
    named = given(method=method, effort=effort, objective=objective, score_range=score_range, units=units)
    numbers = given(gates=gates, steps=steps, refit=refit, lam=lam, device=device, seed=seed)
    settings = {**target, **named, **numbers, "controls": controls, "single_image": single_image}
    choice = ModelChoice(model, weights, trust_pickle, random_weights, input_size, mean, std)
    drawn = {"classes": classes, "per_class": per_class, "held_out": held_out, "seed": seed}
    chain = _Job(choice, images, drawn, settings, out, force).run(quiet=quiet)
    show_chain(chain, out, as_json=as_json, quiet=quiet)


def show_chain(chain: Chain, out: Path, *, as_json: bool, quiet: bool) -> None:
    """Print the metrics of a chain that was saved: as JSON, or as tables and where it is."""
    if as_json:
        write_json(chain.metrics)
    elif not quiet:
        console = results_console()
        units = chain.settings.get("units", ("filters",))
        console.print(metrics_tables(chain.metrics, units))
        console.print(f"\n{verdict(chain.metrics, units)}", soft_wrap=True)
        console.print(f"Saved in {out}; see it with: neurochains report {shlex.quote(str(out))}", soft_wrap=True)


def command_line() -> str:
    """Return the command that this process was started with, for the record."""
    return shlex.join(["neurochains", *sys.argv[1:]])


@dataclass(frozen=True, slots=True)
class _Job:
    """One extraction: of which model, on which images, with which settings, to where."""

    choice: ModelChoice
    images: Path
    drawn: dict[str, Any]
    settings: dict[str, Any]
    out: Path
    force: bool

    def run(self, *, quiet: bool) -> Chain:
        """Return the chain, saved. Nothing is written before it is complete."""
        check_folder(self.out, force=self.force)
        kept = f"{self.out} is as it was." if self.out.exists() else f"nothing was written to {self.out}."
        with working(kept):
            check_device(self.settings.get("device"))
            model = self.choice.load()
            chain = self._extracted(model, self._task(model), quiet)
            chain.provenance["command"] = command_line()
            chain.save(self.out, force=self.force)
        return chain

    def _task(self, model: nn.Module) -> Task:
        from neurochains.data import Task
        from neurochains.network import model_info

        task = Task.from_folder(self.images, model=model, preprocess=self.choice.preprocess(model), **self.drawn)
        if len(task) > _MANY:
            tell(f"warning: {len(task)} images take long; --per-class 10 draws ten of each class")
        info = model_info(model)
        classifies = self.settings["objective"] == "kl" or (info is not None and info.class_names is not None)
        return task if classifies else task.unlabelled()

    def _extracted(self, model: nn.Module, task: Task, quiet: bool) -> Chain:
        from neurochains.extraction import extract

        name = "KL" if self.settings["objective"] == "kl" else "divergence"
        with extraction_progress(quiet=quiet, name=name) as progress:
            return extract(model, task, progress=progress, **self.settings)
