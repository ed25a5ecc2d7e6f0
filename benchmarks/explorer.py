"""The explorer in a real browser: how long until the page can be used, a query is redrawn, a panel is filled; memory.

Times are of the wall, so the machine should have nothing else to do; beside each stands the processor time that server
and browser took for it together, which says what it costs on a machine that is busy.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from benchmarks.browser import page, settle

START = """
import json, sys
from neurochains.explorer import explore
from neurochains.network import load_model
model = load_model(sys.argv[2], pretrained=False) if sys.argv[2] else None
with explore(sys.argv[1], model=model, port=0) as running:
    print(json.dumps({"url": running.url}), flush=True)
    running.wait()
"""
SHAPES = "shapes:vgg"
QUERIES = {True: ("overall", '"red striped disc" - overall'), False: ("overall", "first - second")}
FILL = "document.querySelector('#filter-head h2')?.innerText"
FULL = "document.querySelectorAll('#filter-kernels .kernel-row').length > 0"


def main(arguments: list[str]) -> int:
    """Measure, and print what was found as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks explorer", description=__doc__)
    parser.add_argument("--bundle", help="what prepare wrote; made now, on noise or the shapes data, if left out")
    parser.add_argument("--model", default=SHAPES, help="of the bundle; one of a library has random weights")
    parser.add_argument("--queries", nargs=2, default=None, metavar="EXPRESSION", help="that are asked in turn")
    parser.add_argument("--clicks", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        place = options.bundle or _prepared(folder, options.model)
        server, url = _served(place, "" if options.model == SHAPES else options.model)
        try:
            print(json.dumps(_measured(server.pid, url, options), indent=2))
        finally:
            server.terminate()
            server.wait()
    return 0


def _prepared(folder: str, name: str) -> str:
    import torch

    from neurochains.circuits import prepare
    from neurochains.data import Task
    from neurochains.network import load_model
    from neurochains.preprocess import Preprocess

    place = os.path.join(folder, "bundle")
    if name == SHAPES:
        prepare(load_model(name), Task.shapes(64), place, projection="pca")
        return place
    pixels = torch.randint(0, 256, (4, 3, 224, 224), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    how = Preprocess((224, 224), (0.5,) * 3, (0.5,) * 3)
    names = ["first", "second", *(f"class {number}" for number in range(2, 1000))]
    task = Task((pixels.float() / 255 - 0.5) / 0.5, [0, 0, 1, 1], names, pixels=pixels)
    prepare(load_model(name, pretrained=False), task, place, projection="pca", preprocess=how)
    return place


def _served(place: str, model: str) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-c", START, place, model]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # noqa: S603 - ours
    assert server.stdout is not None
    text = ""
    while "}" not in text:
        line = server.stdout.readline()
        assert line, "the explorer did not start"
        text += line
    return server, json.loads(text)["url"]


def _measured(server: int, url: str, options: argparse.Namespace) -> dict[str, Any]:
    with page() as (made, wrong):
        timer = _Timer(server)
        found: dict[str, Any] = {"page": timer.of(lambda: _open(made, url))}
        settle(made)
        found["page_of_another_visitor"] = _again(timer, made, url)
        queries = options.queries or QUERIES[options.model == SHAPES]
        found["query"] = timer.best(options.rounds, made, lambda n: _ask(made, queries[(n + 1) % 2]))
        found["figure"] = _figure(made)
        units = _units(made)
        found["filter"] = timer.best(options.rounds, made, lambda n: _select(made, units[n % len(units)]))
        found["memory"] = _clicks(server, made, units, options.clicks)
        found["wrong"] = wrong
    return found


class _Timer:
    """Measures wall and processor time of the server and the browser."""

    def __init__(self, server: int) -> None:
        self.server = server

    def of(self, work: Callable[[], None]) -> dict[str, float]:
        """Return the seconds that some work took."""
        wall, cpu = time.perf_counter(), _processor(self.server)
        work()
        return {"wall": round(time.perf_counter() - wall, 3), "cpu": round(_processor(self.server) - cpu, 3)}

    def best(self, rounds: int, made: Any, work: Callable[[int], None]) -> dict[str, Any]:
        """Return the first round, and the medians and the least of those after it; the page is at rest before each."""
        rows = []
        for number in range(rounds + 1):
            settle(made)
            rows.append(self.of(lambda n=number: work(n)))
        medians = {key: round(statistics.median(row[key] for row in rows[1:]), 3) for key in rows[0]}
        return {"first": rows[0], **medians, "least": {key: min(row[key] for row in rows) for key in rows[0]}}


def _open(made: Any, url: str) -> None:
    made.goto(url, wait_until="commit")
    made.wait_for_selector("#graph canvas")
    made.wait_for_function("document.getElementById('graph-said').innerText.includes('filters')")


def _again(timer: _Timer, made: Any, url: str) -> dict[str, float]:
    """Return how long it takes whoever comes when the server is at work: nothing is in this browser's cache either."""
    other = made.context.browser.new_page(viewport={"width": 1280, "height": 800})
    found = timer.of(lambda: _open(other, url))
    other.close()
    return found


def _ask(made: Any, expression: str) -> None:
    plot = "document.querySelector('#graph .js-plotly-plot')"
    made.evaluate(f"window.redrawn = 0; {plot}.once('plotly_afterplot', () => {{ window.redrawn = 1; }})")
    made.locator("#expression").fill(expression)
    made.get_by_role("button", name="Run the query").click()
    made.wait_for_function("window.redrawn === 1")


def _figure(made: Any) -> dict[str, int]:
    plot = "document.querySelector('#graph .js-plotly-plot')"
    size = made.evaluate(f"JSON.stringify({plot}.data).length")
    return {"traces": made.evaluate(f"{plot}.data.length"), "bytes_in_the_browser": size}


def _units(made: Any) -> list[str]:
    labels = made.evaluate("document.querySelector('#graph .js-plotly-plot').data[0].hovertext")
    return [label.split(":")[0] for label in labels if ":" in label][:: max(1, len(labels) // 40)]


def _select(made: Any, label: str) -> None:
    made.locator("#filter-find").fill(label)
    made.locator("#filter-find").press("Enter")
    made.wait_for_function(f"{FILL} === {json.dumps(label)} && {FULL}")


def _clicks(server: int, made: Any, units: list[str], count: int) -> dict[str, Any]:
    """Return the memory of server and page after a fifth of some clicks, and after all of them, in MB."""
    rows = []
    for number in range(count):
        _select(made, units[number % len(units)])
        if number + 1 in (max(1, count // 5), count):
            settle(made)
            heap = _heap(made)
            rows.append({"clicks": number + 1, "server": round(_resident(server) / 1e6), "page": round(heap / 1e6, 1)})
    return {"after": rows}


def _heap(made: Any) -> int:
    """Return the bytes that the page holds once its garbage is gone."""
    session = made.context.new_cdp_session(made)
    session.send("HeapProfiler.collectGarbage")
    found = session.send("Runtime.getHeapUsage")["usedSize"]
    session.detach()
    return int(found)


def _processor(server: int) -> float:
    import psutil

    total = 0.0
    children = psutil.Process().children(recursive=True)
    for process in {psutil.Process(server), *children}:
        try:
            spent = process.cpu_times()
        except psutil.Error:
            continue
        total += spent.user + spent.system
    return total


def _resident(server: int) -> int:
    import psutil

    return psutil.Process(server).memory_info().rss


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
