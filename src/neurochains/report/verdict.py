"""The verdict in plain words, the large figures at the top, and what a reader should be warned of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from neurochains.chains import Chain
from neurochains.report.answers import are_classes, divergence_name, unit_noun
from neurochains.report.content import Fact
from neurochains.report.measured import SHORT, asked_divergence
from neurochains.report.words import decimal, number, percent, plural

__all__ = ["facts", "notes", "title", "verdict", "warnings"]

CLOSE = {"kl": 0.5, "agreement": 0.9}  # beyond these, outputs are approximated rather than reproduced
FEW = 5  # images of a class; the papers see overfitting with as many or fewer
LOW_AGREEMENT = 0.8
LEAST_PARITY = 1e-4


def title(chain: Chain) -> str:
    """Return what the chain is about: its classes, or the number of its images."""
    names = [chain.task.label_name(label) for label in chain.task.classes] if are_classes(chain) else []
    if not names:
        return plural(len(chain.task), "image")
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} more classes"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def verdict(chain: Chain, metrics: Mapping[str, Any]) -> str:
    """Return one sentence: what was kept, and how faithful it is."""
    which = "this image" if len(chain.task) == 1 else f"these {len(chain.task):,} images"
    verb = "reproduce" if _is_close(metrics) else "only roughly approximate"
    return f"{_kept(chain, metrics)} {verb} the outputs on {which}: {_fidelity(chain, metrics)}."


def _kept(chain: Chain, metrics: Mapping[str, Any]) -> str:
    """Return what is left, in words."""
    units = (
        f"{metrics['filters']:,} of {metrics['of']:,} {unit_noun(chain)} in {metrics['layers']} of "
        f"{metrics['layers_of']} layers"
    )
    patches = metrics.get("patches")
    if not patches:
        return units
    left = f"{percent(patches['kept'] / patches['of'], 1)} of the patches over all blocks"
    return f"{units} and {left}" if metrics["of"] else left


def facts(chain: Chain, metrics: Mapping[str, Any]) -> tuple[Fact, ...]:
    """Return the large figures."""
    found = []
    if metrics["of"]:
        share = percent(metrics["filters"] / metrics["of"], 1)
        found.append(Fact(share, f"of the {unit_noun(chain)}, {metrics['filters']:,} in all"))
    patches = metrics.get("patches")
    if patches:
        share = percent(patches["kept"] / patches["of"], 1)
        found.append(Fact(share, f"of the patches over all blocks, out of {patches['patches']:,} in each"))
    found.append(Fact(decimal(_divergence(metrics)), f"mean {divergence_name(chain)}"))
    if metrics.get("agreement") is not None:
        found.append(Fact(percent(metrics["agreement"]), "of the predictions kept"))
    held = metrics.get("held_out") or {}
    if held.get("agreement") is not None:
        found.append(Fact(percent(held["agreement"]), "kept on images held out"))
    if metrics.get("macs") is not None and metrics.get("macs_of"):
        found.append(Fact(percent(metrics["macs"] / metrics["macs_of"], 1), "of the computation"))
    return tuple(found)


def warnings(chain: Chain, metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what speaks against relying on the chain, the gravest first."""
    other = _about_patches() if chain.patches is not None else _about_held_out(metrics)
    said = [*_about_fidelity(chain, metrics), *other, *_about_images(chain)]
    info = chain.network.info
    if info is not None and info.weights == "random":
        said.insert(0, "The weights of this network are random: it has learnt nothing that a chain could show.")
    return (*said, *_about_controls(metrics))


def notes(chain: Chain, metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what else is worth knowing at the start."""
    said = []
    values = [float(v) for one in chain.leave_one_out.values() for v in one.tolist() if math.isfinite(v)]
    asked, reached = asked_divergence(chain), _divergence(metrics)
    measured_all = bool(values) and len(values) == metrics["filters"]
    if measured_all and asked is not None and reached is not None and reached <= asked < min(values):
        name = divergence_name(chain)
        said.append(
            f"No filter can be spared: without any one of them the mean {name} is at least {number(min(values))}, "
            f"above the {number(asked)} that was asked for."
        )
    accuracy = metrics.get("accuracy_original")
    if accuracy is not None and accuracy < 1:
        wrong = round((1 - accuracy) * len(chain.task))
        said.append(f"The original network itself is wrong on {wrong} of {len(chain.task)} images.")
    return tuple(said)


def _divergence(metrics: Mapping[str, Any]) -> float | None:
    return metrics.get("divergence") if metrics.get("divergence") is not None else metrics.get("kl")


def _is_close(metrics: Mapping[str, Any]) -> bool:
    agreement = metrics.get("agreement")
    value = _divergence(metrics)
    return value is not None and value <= CLOSE["kl"] and (agreement is None or agreement >= CLOSE["agreement"])


def _fidelity(chain: Chain, metrics: Mapping[str, Any]) -> str:
    said = f"mean {divergence_name(chain)} {decimal(_divergence(metrics))}"
    agreement = metrics.get("agreement")
    if agreement is None:
        return said
    images = len(chain.task)
    if agreement == 1:
        return f"{said}, {'every prediction' if images > 1 else 'its prediction'} kept"
    return f"{said}, {round(agreement * images):,} of {plural(images, 'prediction')} kept"


def _about_fidelity(chain: Chain, metrics: Mapping[str, Any]) -> list[str]:
    said, value, asked = [], _divergence(metrics), asked_divergence(chain)
    if value is None:
        said.append("The outputs of the sub-network are not finite.")
    elif asked is not None and value > asked * 1.0001:
        name = divergence_name(chain)
        said.append(f"The mean {name} is {number(value)}, above the {number(asked)} that was asked for.")
    if (metrics.get("parity") or 0) > LEAST_PARITY:
        said.append(
            f"Compacted, the sub-network differs from the scored one by {number(metrics['parity'])} of the range."
        )
    return said


def _about_patches() -> list[str]:
    return ["Patches are kept image by image: they say what these answers rest on, and nothing of other images."]


def _about_held_out(metrics: Mapping[str, Any]) -> list[str]:
    held = metrics.get("held_out")
    if not held:
        return [
            "No images were held out, so it is not known whether the chain speaks for the classes or only for these."
        ]
    agreement = held.get("agreement")
    if agreement is None or agreement >= LOW_AGREEMENT:
        return []
    images = held.get("images", "the")
    first = f"On {images} images that were held out, only {percent(agreement)} of the predictions are kept:"
    return [f"{first} the chain explains the images that it was extracted on, not its classes at large."]


def _about_images(chain: Chain) -> list[str]:
    if len(chain.task) == 1:
        return ["The chain was extracted on one image. Nothing in it speaks for a class."]
    rows = chain.task.by_class()
    few = [chain.task.label_name(label) for label, several in rows.items() if len(several) <= FEW]
    if not few or not are_classes(chain):
        return []
    named = ", ".join(few[:3]) + (f" and {len(few) - 3} more" if len(few) > 3 else "")
    return [f"There are {FEW} images or fewer of {named}: so few are easily fitted by chance."]


def _about_controls(metrics: Mapping[str, Any]) -> list[str]:
    """Say which controls are as faithful as the chain."""
    value, said = _divergence(metrics), []
    for name, one in (metrics.get("controls") or {}).items():
        other = _divergence(one)
        if value is None or other is None or other > value:
            continue
        what = "All that the chain leaves out" if name == "complement" else f"The control “{SHORT.get(name, name)}”"
        said.append(f"{what} is as faithful as the chain (mean divergence {decimal(other)}).")
    return said + _about_controls_held_out(metrics)


def _about_controls_held_out(metrics: Mapping[str, Any]) -> list[str]:
    """Say how many of the controls are nearer to the original than the chain, on images that were held out."""
    value = _divergence(metrics.get("held_out") or {})
    others = [_divergence(one.get("held_out") or {}) for one in (metrics.get("controls") or {}).values()]
    nearer = sum(other <= value for other in others if other is not None) if value is not None else 0
    if not nearer:
        return []
    return [f"On images held out, the chain is no nearer to the original than {nearer} of its {len(others)} controls."]
