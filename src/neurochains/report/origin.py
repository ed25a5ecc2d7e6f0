"""Where a chain comes from and how to make it again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from neurochains.chains import Chain
from neurochains.extraction.options import REFIT
from neurochains.report.content import Origin
from neurochains.report.words import number

__all__ = ["origin"]

DRAWN = re.compile(r"(?P<split>\w+)/(?P<seed>\d+)/(?P<index>\d{4})")  # the names of built-in images
PASSED = (  # settings that are options of `extract`, as long as they are plain values
    "fidelity",
    "size",
    "agreement",
    "method",
    "effort",
    "units",
    "objective",
    "score_range",
    "gates",
    "steps",
    "refit",
    "seed",
)
DEFAULTS = {"method": "budget", "effort": "quick", "objective": "kl", "score_range": "unbounded", "units": ["filters"]}
DEFAULTS_OF = {"budget": {"gates": False}, "paper": {"gates": True, "refit": 100}}
ON_COMMAND_LINE = ("fidelity", "size", "agreement", "method", "effort", "objective", "seed")


def origin(chain: Chain) -> Origin:
    """Return the settings and the provenance of a chain, and how to make it again."""
    made = chain.provenance
    model = made.get("model") or {}
    images = made.get("images") or {"names": chain.task.names, "digests": chain.task.digests}
    return Origin(
        settings=tuple((_words(key), _text(value)) for key, value in chain.settings.items() if value is not None),
        provenance=tuple(_provenance(made, model)),
        digests=tuple(zip(images["names"], images["digests"])),
        command=made.get("command") or ("" if _drawn(chain) else _command(chain, model)),
        python=_python(chain, model),
        remark=_remark(chain, model),
    )


def _provenance(made: Mapping[str, Any], model: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("model", model.get("name") or "a module without a name"),
        ("weights", model.get("weights") or "not known"),
        ("digest of the weights", f"sha256 {model.get('digest', '')}"),
        ("input", " × ".join(map(str, model.get("input", ())))),
        ("outputs", _text(model.get("outputs"))),
        ("seed", _text(made.get("seed"))),
        ("extracted", _text(made.get("created"))),
        ("Python", _text(made.get("python"))),
    ]
    return [*rows, *((name, str(version)) for name, version in (made.get("packages") or {}).items())]


def _words(key: str) -> str:
    return key.replace("_", " ")


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(str(key))} {_text(entry)}" for key, entry in value.items())
    return str(value)


def _options(chain: Chain) -> dict[str, Any]:
    """Return the settings that are passed to `extract` to get the same chain: those that are not its defaults."""
    settings = {**chain.settings, "seed": chain.settings.get("seed", 0)}
    defaults = {
        **DEFAULTS,
        "refit": REFIT.get(str(settings.get("effort"))),
        **DEFAULTS_OF.get(str(settings.get("method")), {}),
    }
    plain = {name: settings.get(name) for name in PASSED}
    options = {
        name: value
        for name, value in plain.items()
        if isinstance(value, (str, int, float, list)) and defaults.get(name) != value
    }
    return {**options, "single_image": True} if len(chain.task) == 1 else options


def _python(chain: Chain, model: Mapping[str, Any]) -> str:
    """Return the Python that makes the chain again."""
    loaded = (
        f"model = nc.load_model({model['name']!r})" if model.get("name") else "model = ...  # your module, in eval mode"
    )
    options = "".join(f", {name}={value!r}" for name, value in _options(chain).items())
    return "\n".join(
        [
            "import neurochains as nc",
            "",
            loaded,
            f"task = {_task(chain)}",
            f"chain = nc.extract(model, task{options})",
        ]
    )


def _task(chain: Chain) -> str:
    """Return the call that makes the task."""
    return _drawn(chain) or _from_folder(chain)


def _drawn(chain: Chain) -> str:
    """Return the call that draws the task's images of the built-in data; nothing if they are others."""
    drawn = [DRAWN.fullmatch(name) for name in chain.task.names]
    first = drawn[0]
    name = str((chain.provenance.get("model") or {}).get("name"))
    if first is None or not all(drawn) or not name.startswith("shapes:"):
        return ""
    every = len(chain.task.classes) == chain.network.outputs
    classes = "" if every else f", classes={list(chain.task.classes)}"
    return f"nc.Task.shapes({len(chain.task)}, seed={int(first['seed'])}, split={first['split']!r}{classes})"


def _from_folder(chain: Chain) -> str:
    names = [chain.task.label_name(label) for label in chain.task.classes]
    counts = {len(rows) for rows in chain.task.by_class().values()}
    per_class = f", per_class={counts.pop()}" if len(counts) == 1 else ""
    held = chain.task.held_out
    if held is not None and names:
        per_class += f", held_out={len(held) // len(names)}"
    classes = f", classes={names!r}" if names else ""
    return f"nc.Task.from_folder('IMAGES'{classes}{per_class}, model=model)"


def _command(chain: Chain, model: Mapping[str, Any]) -> str:
    """Return the command that makes the chain again, on the same folder of images."""
    words = ["neurochains extract", f"--model {_quoted(model.get('name') or 'MODEL')}", "--images IMAGES"]
    names = [_quoted(chain.task.label_name(label)) for label in chain.task.classes]
    if names:
        words.append("--classes " + " ".join(names))
    counts = {len(rows) for rows in chain.task.by_class().values()}
    if len(counts) == 1:
        words.append(f"--per-class {counts.pop()}")
    options = _options(chain)
    words += [
        f"--{name.replace('_', '-')} {_quoted(str(options[name]))}" for name in ON_COMMAND_LINE if name in options
    ]
    return " ".join([*words, "--out RUN"])


def _quoted(text: str) -> str:
    return text if re.fullmatch(r"[\w.:/-]+", text) else "'" + text.replace("'", "'\\''") + "'"


def _remark(chain: Chain, model: Mapping[str, Any]) -> str:
    if _drawn(chain):
        held = chain.task.held_out is not None
        return "Further images were held out; they do not change the chain." if held else ""
    said = "IMAGES is the folder of images; the same files have the same digests, below."
    return said if model.get("name") else f"{said} The model is code of one's own and has to be made first."
