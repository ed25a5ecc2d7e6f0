"""Every extraction and ranking method on planted networks: precision, recall and exact recovery of the true circuit.

For each planted network, noise and seed:

- extraction methods give a set of filters: the budget method (at KL <= .05; also with scores of 0 or 1 only), the
  paper's recipe with its own constants, without gates, and at the true size;
- ranking methods give an order of all filters, of which the first are taken, as many as the truth has groups; for them
  average precision is measured too: every criterion of `neurochains.circuits` for the loss, the controls' map sizes,
  and what is lost without each filter.

A filter that has copies counts as found once, by any of them (`neurochains.measures.planted_truth`). Cases are kept one
by one as JSON lines, and a run that was stopped goes on where it was.

``python -m benchmarks planted [--only NAME ...] [--methods NAME ...] [--noise X ...] [--seeds N] [--table]``
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from neurochains.chains import Scores
from neurochains.circuits import CRITERIA, importance
from neurochains.errors import NeuroChainsError
from neurochains.extraction import extract
from neurochains.measures import Planted, average_precision, leave_one_out, map_sizes, planted, planted_names
from neurochains.network import Filter, Network

RESULTS = Path(__file__).parent / "results" / "planted.jsonl"
NOISES, SEEDS = (0.0, 0.05, 0.1), 5
FIDELITY = 0.05

EXTRACTIONS: dict[str, dict[str, Any]] = {
    "budget": {"fidelity": FIDELITY},
    "budget, 0 or 1": {"fidelity": FIDELITY, "score_range": "binary"},
    "paper": {"method": "paper"},
    "paper, no gates": {"method": "paper", "gates": False},
    "paper, true size": {"method": "paper", "gates": False, "size": -1},
}
"""Options of `extract`; a size of -1 stands for that of the truth."""

Ranking = Callable[[Planted, Network], dict[str, torch.Tensor]]


def main(arguments: Sequence[str] = ()) -> int:
    """Run the cases that have no result yet, then print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks planted", description=__doc__)
    parser.add_argument("--only", nargs="*", help="planted networks; all by default", default=None)
    parser.add_argument("--methods", nargs="*", help="methods; all by default", default=None)
    parser.add_argument("--noise", nargs="*", type=float, default=NOISES)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--table", action="store_true", help="only print the tables of what was run")
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if not chosen.table:
        _run(chosen)
    print(tables(read(chosen.out)))
    return 0


def _run(chosen: argparse.Namespace) -> None:
    known = {_key(row) for row in read(chosen.out)}
    methods = [name for name in (*EXTRACTIONS, *rankings()) if chosen.methods is None or name in chosen.methods]
    for name, noise, seed in cases(chosen.only, chosen.noise, chosen.seeds):
        waiting = [method for method in methods if (name, noise, seed, method) not in known]
        if not waiting:
            continue
        made = planted(name, noise=noise, seed=seed)
        network = Network.trace(made.model, made.task.images[:2])
        for method in waiting:
            row = {"name": name, "noise": noise, "seed": seed, "method": method, **run(made, network, method)}
            with chosen.out.open("a") as file:
                file.write(json.dumps(row) + "\n")


def cases(only: Sequence[str] | None, noises: Sequence[float], seeds: int) -> Iterator[tuple[str, float, int]]:
    """Yield (name, noise, seed), the noises and seeds of one network together."""
    for name in planted_names():
        if only is None or name in only:
            yield from ((name, noise, seed) for noise in noises for seed in range(seeds))


def rankings() -> dict[str, Ranking]:
    """Return the ranking methods: from a planted network to the worth of each filter by layer."""
    found: dict[str, Ranking] = {name: _criterion(name) for name in CRITERIA}
    return {**found, "map size": _map_size, "left out": _left_out}


def run(made: Planted, network: Network, method: str) -> dict[str, Any]:
    """Return how well one method recovers the truth of one planted network; what failed, in words, where it did."""
    try:
        if method in EXTRACTIONS:
            options = dict(EXTRACTIONS[method])
            if options.get("size") == -1:
                options["size"] = len(made.truth.alike)
            chain = extract(network, made.task, controls=False, **options)
            return {
                **made.truth.recovery(chain.subnetwork.list_filters()).to_json(),
                "kl": chain.metrics["kl"],
                "seconds": chain.metrics["seconds"],
            }
        order = ranked(rankings()[method](made, network))
        return {**made.truth.first(order).to_json(), "average_precision": average_precision(made.truth, order)}
    except (NeuroChainsError, RuntimeError) as error:  # a method that breaks has found nothing
        return {"precision": 0.0, "recall": 0.0, "exact": False, "error": str(error)}


def ranked(worth: dict[str, torch.Tensor]) -> list[Filter]:
    """Return all filters, those of most worth first; of equal ones, those of earlier layers."""
    units = [Filter(name, index) for name, values in worth.items() for index in range(len(values))]
    flat = torch.cat([torch.nan_to_num(values.double().cpu(), -1.0) for values in worth.values()])
    return [units[place] for place in flat.argsort(descending=True, stable=True).tolist()]


def _criterion(name: str) -> Ranking:
    def measured(made: Planted, network: Network) -> dict[str, torch.Tensor]:
        found = importance(network, made.task, target="loss", criterion=name)
        return dict(found.normalised("layer-sum").filters)

    return measured


def _map_size(made: Planted, network: Network) -> dict[str, torch.Tensor]:
    sizes = map_sizes(network, made.task.images, network.scored())
    return {name: values / values.mean().clamp_min(1e-12) for name, values in sizes.items()}


def _left_out(made: Planted, network: Network) -> dict[str, torch.Tensor]:
    return dict(leave_one_out(network, made.task.images, Scores.ones(network.scored())).divergence)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of JSON lines; none if it is not there."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def tables(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of all methods by noise, then of the first method by network, as Markdown."""
    noises = sorted({row["noise"] for row in rows})
    methods = list(dict.fromkeys(row["method"] for row in rows))
    head = ["method", *(f"precision / recall / exact, noise {noise:g}" for noise in noises), "average precision"]
    lines = _header(head)
    for method in methods:
        own = [row for row in rows if row["method"] == method]
        cells = [_cell([row for row in own if row["noise"] == noise]) for noise in noises]
        ranked_rows = [row["average_precision"] for row in own if "average_precision" in row and not row["noise"]]
        lines.append(_line([method, *cells, f"{statistics.fmean(ranked_rows):.2f}" if ranked_rows else ""]))
    for method in [method for method in methods if method in EXTRACTIONS][:1]:
        lines += ["", *_header([f"{method}, by network", *(f"noise {noise:g}" for noise in noises)])]
        for name in dict.fromkeys(row["name"] for row in rows):
            own = [row for row in rows if row["method"] == method and row["name"] == name]
            lines.append(_line([name, *(_cell([row for row in own if row["noise"] == noise]) for noise in noises)]))
    return "\n".join(lines)


def _cell(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return ""
    means = [statistics.fmean(float(row[name]) for row in rows) for name in ("precision", "recall")]
    return f"{means[0]:.2f} / {means[1]:.2f} / {sum(row['exact'] for row in rows)} of {len(rows)}"


def _header(cells: Sequence[str]) -> list[str]:
    return [_line(cells), _line(["---", *["---:"] * (len(cells) - 1)])]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _key(row: dict[str, Any]) -> tuple[str, float, int, str]:
    return row["name"], row["noise"], row["seed"], row["method"]


if __name__ == "__main__":
    raise SystemExit(main())
