"""Circuits end to end: found, run, compacted, saved, loaded, compared; and what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from tests.architectures import ARCHITECTURES
from tests.circuits.conftest import small_network, small_task

import neurochains as nc
from neurochains.circuits import METHODS, compare_methods
from neurochains.circuits.validation import BINARY
from neurochains.errors import ArtifactError, DataError, FidelityError, LayerError, NeuroChainsError, SettingsError

QUICK = {"steps": 2, "final": 4, "ratio": 0.5}
FEW = ("residual", "depthwise", "slopes")
MORE = ("dense", "grouped", "squeezed", "shuffled")
KINDS = (*FEW, *(pytest.param(kind, marks=pytest.mark.slow) for kind in MORE))
TARGETS = ("filter", "logit:1", "logit:1-logit:3")
NETWORK = small_network("residual")
TASK = small_task(8)


def named(kind, target):
    layers = [layer for layer in small_network(kind).layers if layer.role == "filter"]
    return f"{layers[-1].name}[0]" if target == "filter" else target


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", TARGETS)
def test_the_compact_module_computes_the_targets_map_with_copied_kernels(kind, target):
    network = small_network(kind)
    made = nc.circuit(network, TASK, target=named(kind, target), keep=0.6, method="topk")
    small, answers = made.compact(), made.run(TASK.images)
    rounding = 2 * torch.finfo(answers.dtype).eps * answers.abs().max() / (answers.max() - answers.min())
    assert made.metrics["parity"] < max(
        1e-5, float(rounding)
    )  # answers that hardly differ: then rounding is what is left
    assert torch.allclose(small(TASK.images), answers, atol=1e-5)
    held = torch.cat([buffer.flatten() for buffer in small.buffers() if buffer.is_floating_point()])
    copied = [network.kernels(name).weight[mask].flatten() for name, mask in made.kernels.items()]
    assert bool(torch.isin(torch.cat(copied), held).all())
    assert all(torch.equal(mask, made.scores[name] == 1) for name, mask in made.kernels.items())
    assert all(torch.equal(made.filters[name], mask.any(1).nonzero().flatten()) for name, mask in made.kernels.items())


@pytest.mark.parametrize("target", TARGETS)
def test_the_complete_circuit_is_the_target_itself(target):
    made = nc.circuit(NETWORK, TASK, target=named("residual", target), keep=1)
    assert made.metrics["kernels"] == made.metrics["of"] == made.size
    assert made.metrics["pearson"] == pytest.approx(1)
    logits = NETWORK(TASK.images)
    wanted = {"logit:1": logits[:, 1:2], "logit:1-logit:3": logits[:, 1:2] - logits[:, 3:4]}.get(target)
    assert wanted is None or torch.allclose(made.run(TASK.images), wanted, atol=1e-5)


def test_without_a_filters_kernels_the_map_changes_as_the_edges_say():
    """Every edge of the list matters, and there are no others."""
    made = nc.circuit(NETWORK, TASK, target="c.0[1]", keep=0.4, method="topk")
    edges = made.edges()
    assert len(edges) == made.size
    assert all(edge.sources and made.kernels[edge.filter.layer][edge.filter.index, edge.column] for edge in edges)
    whole = made.as_network()
    assert torch.allclose(
        made.run(TASK.images), nc.circuit(whole, TASK, target="c.0[1]", keep=1).run(TASK.images), atol=1e-5
    )


def test_a_model_is_left_as_it_was():
    model = ARCHITECTURES["residual"]().eval()
    before = {name: values.clone() for name, values in model.state_dict().items()}
    nc.circuit(model, TASK, target="c.0[1]", keep=0.3, **QUICK)
    with pytest.raises(NeuroChainsError):
        nc.circuit(model, TASK, target="c.0[1]", keep=0.001, **QUICK)
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_saved_and_loaded(tmp_path):
    model = nc.load_model("shapes:vgg")
    task = nc.Task.shapes(6)
    task = nc.Task(task.images, task.labels, task.class_names, held_out=nc.Task.shapes(4, seed=1))
    made = nc.circuit(model, task, target="features.3[5]", keep=0.3, **QUICK)
    assert made.tuned
    assert set(made.metrics["held_out"]) == {"pearson", "spearman", "error"}
    folder = made.save(tmp_path / "circuit")
    loaded = nc.load_circuit(folder)
    assert torch.equal(loaded.run(task.images), made.run(task.images))
    assert (loaded.target, loaded.metrics, loaded.settings) == (made.target, made.metrics, made.settings)
    assert loaded.provenance["model"]["digest"] == made.network.digest
    with pytest.raises(ArtifactError, match="exists already"):
        made.save(folder)
    with pytest.raises(ArtifactError, match="other weights"):
        nc.load_circuit(folder, model="shapes:resnet")
    with pytest.raises(ArtifactError, match="no chain"):
        nc.load_chain(folder)
    document = json.loads((folder / "circuit.json").read_text())
    del document["readout"]
    (folder / "circuit.json").write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match="'readout' is missing"):
        nc.load_circuit(folder)
    next(folder.glob("circuit*.safetensors")).write_bytes(b"short")
    with pytest.raises(ArtifactError, match="truncated or damaged"):
        nc.load_circuit(folder)


def test_sizes_in_one_descent_and_a_correlation():
    found = nc.circuits_by_size(NETWORK, TASK, target="c.0[1]", keep=[0.6, 0.3], **QUICK)
    assert [made.metrics["keep"] <= keep for keep, made in found.items()] == [True, True]
    for method in ("budget", "topk"):
        options = QUICK if method == "budget" else {}
        made = nc.circuit(NETWORK, TASK, target="c.0[1]", correlation=0.8, method=method, **options)
        assert made.metrics["pearson"] >= 0.8
        assert made.size < made.metrics["of"]
    hierarchical = nc.circuit(NETWORK, TASK, target="c.0[1]", thresholds=(0.9, 0.9), method="hierarchical")
    assert hierarchical.settings["thresholds"] == [0.9, 0.9]


def test_every_method_is_compared_on_unseen_images():
    rows = compare_methods(NETWORK, TASK, target="c.0[1]", unseen=small_task(8, seed=3), sizes=(0.02, 0.6), **QUICK)
    assert {(row.method, row.keep) for row in rows} == {
        (name, size) for name in (*METHODS, BINARY) for size in (0.02, 0.6)
    }
    collapsed = [row for row in rows if row.unseen is None]
    assert collapsed
    assert all(row.kept == 0 for row in collapsed)
    whole = {row.method: row for row in rows if row.keep == 0.6 and row.unseen is not None}
    assert whole["budget"].unseen.pearson > whole["random"].unseen.pearson
    assert json.dumps([row.as_row() for row in rows])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, SettingsError, "exactly one of keep"),
        ({"keep": 0.1, "correlation": 0.9}, SettingsError, "exactly one of keep"),
        ({"keep": 0}, SettingsError, "above 0, at most 1; got 0"),
        ({"keep": 1.5}, SettingsError, "above 0, at most 1; got 1.5"),
        ({"correlation": 1.0}, FidelityError, "above 0 and below 1"),
        ({"keep": 0.1, "method": "snap"}, SettingsError, "There is no method 'snap'. Did you mean snip"),
        ({"keep": 0.1, "method": "snip", "steps": 3}, SettingsError, "steps is an option of method='budget'"),
        ({"keep": 0.1, "step": 3}, SettingsError, "no option 'step'. Did you mean steps"),
        ({"thresholds": (0.5, 0.5)}, SettingsError, "go with method='hierarchical'"),
        ({"keep": 0.001, "method": "topk"}, SettingsError, "Total collapse"),
        ({"keep": 0.1, "target": "c.0[99]"}, LayerError, "0 to 11; got 99"),
    ],
)
def test_what_cannot_be_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        nc.circuit(NETWORK, TASK, **{"target": "c.0[1]", **options})


def test_a_comparison_wants_unseen_images_and_known_methods():
    with pytest.raises(DataError, match="hold some out"):
        compare_methods(NETWORK, TASK, target="c.0[1]")
    with pytest.raises(SettingsError, match="Did you mean binary"):
        compare_methods(NETWORK, TASK, target="c.0[1]", unseen=TASK, methods=["binari"])
