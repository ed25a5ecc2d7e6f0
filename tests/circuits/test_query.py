from __future__ import annotations

import json

import numpy as np
import pytest

from neurochains.circuits import Bundle, importance, prepare, query
from neurochains.errors import ExpressionError, LayerError, SettingsError

from .conftest import small_network, small_task


def literal(bundle, weights, kernels=False):
    """Slow: the expression as a weighted sum of dictionaries, clipped at 0."""
    parts = {name: (bundle.kernels if kernels else bundle.filters)(name) for name in weights}
    layers = [layer.name for layer in bundle.spans.layers]
    sums = {name: sum(w * parts[key][name].astype(np.float64) for key, w in weights.items()) for name in layers}
    return {name: np.maximum(values, 0) for name, values in sums.items()}


@pytest.mark.parametrize("kernels", [False, True])
@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("tiger - overall", {"tiger": 1, "overall": -1}),
        ('0.5 * ("tabby cat" + n00000002) - "<b>wolf</b>"', {"tabby": 0.5, "tiger": 0.5, "n00000003": -1}),
        ("-tiger", {"tiger": -1}),
    ],
)
def test_an_expression_is_applied_to_importances_and_clipped(bundle, text, weights, kernels):
    result = query(text, bundle, kernels=kernels)
    wanted = literal(bundle, weights, kernels)
    assert list(result.scores) == list(wanted)
    for name, values in wanted.items():
        np.testing.assert_allclose(result.scores[name], values, rtol=1e-6, atol=1e-12)
    assert result.of == (bundle.spans.kernels if kernels else bundle.spans.filters)
    assert result.kind == ("kernels" if kernels else "filters")


def test_rows_are_ranked(bundle):
    result = query("tiger", bundle)
    rows = result.rows()
    assert [row.score for row in rows] == sorted((row.score for row in rows), reverse=True)
    assert len(rows) == result.positive
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert result.rows(3) == rows[:3]
    best = rows[0]
    assert result.scores[best.layer][best.filter] == pytest.approx(best.score)
    assert best.name == f"{best.layer}[{best.filter}]"
    assert best.label == f"{bundle.layer(best.layer).label}_{best.filter}"
    assert best.channel is None


@pytest.mark.parametrize("kind", ["residual", "grouped"])
def test_rows_of_kernels_name_both_ends(kind, tmp_path):
    network = small_network(kind)
    bundle = prepare(network, small_task(4), tmp_path / "b", projection="pca")
    rows = query("overall", bundle, kernels=True).rows()
    assert len(rows) > 20
    for row in rows:
        kernels = network.kernels(row.layer)
        layer, width = kernels.layer, kernels.weight.shape[1]
        inside = row.channel - row.filter // (layer.units // layer.groups) * width
        assert bundle.kernels()[row.layer][row.filter, inside] == pytest.approx(row.score)
        ends = [str(source) for source in kernels.sources[row.channel]]
        assert row.name == f"{' + '.join(ends)} -> {row.layer}[{row.filter}]"


def test_equal_scores_come_in_the_order_of_execution(bundle):
    rows = query("1 + 0 * tiger", bundle).rows(5)
    assert [(row.layer, row.filter) for row in rows] == [(bundle.spans.layers[0].name, index) for index in range(5)]


def test_layers_can_be_chosen_by_name_and_label(bundle):
    label = bundle.layer("a.0").label
    result = query("tiger", bundle, layers=["c.0", label.lower()])
    assert list(result.scores) == ["a.0", "c.0"]
    with pytest.raises(LayerError, match=r"No layer is called 'd.0'"):
        query("tiger", bundle, layers=["d.0"])
    with pytest.raises(SettingsError, match="Wanted the names of some layers"):
        query("tiger", bundle, layers=[])


@pytest.mark.parametrize("how", ["layer-minmax", "layer-sum", "none"])
@pytest.mark.parametrize("kernels", [False, True])
def test_normalisation_is_that_of_importance(bundle, network, task, how, kernels):
    part = task.subset(task.by_class()[1])
    found = importance(network, part, target="loss").normalised(how)
    result = query("tiger", bundle, normalise=how, kernels=kernels)
    for name, values in result.scores.items():
        wanted = (found.kernels if kernels else found.filters)[name]
        np.testing.assert_allclose(values, wanted, rtol=2e-3, atol=1e-3 * float(wanted.max()))


def test_nothing_is_left_where_all_is_negative(bundle):
    result = query("-overall", bundle)
    assert (result.rows(5), result.positive, result.total) == ((), 0, 0.0)


def test_a_result_is_json(bundle):
    values = json.loads(json.dumps(query("tiger - overall", bundle, kernels=True).to_json(2), allow_nan=False))
    assert set(values) == {
        "expression",
        "kind",
        "target",
        "criterion",
        "reduce",
        "normalise",
        "total",
        "positive",
        "of",
        "rows",
    }
    assert set(values["rows"][1]) == {"layer", "filter", "channel", "label", "name", "score", "share"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tiger - ", "but the expression ends"),
        ("tigre - overall", "No set of images is called 'tigre'. Did you mean tiger"),
        ("tiger / (overall - overall)", "Division by zero: the divisor is 0 for"),
        ("+".join(["tiger"] * 300), "may have 200 terms"),
    ],
)
def test_a_wrong_expression_is_pointed_to(bundle, text, message):
    with pytest.raises(ExpressionError, match=message) as caught:
        query(text, bundle)
    assert "^" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"normalise": "max"}, "A normalisation is one of none, layer-minmax"), ({}, "top 1 or more")],
)
def test_wrong_options_are_refused(bundle, options, message):
    with pytest.raises(SettingsError, match=message):
        query("tiger", bundle, **options).rows(0)


def test_only_the_files_that_are_named_are_read(copied):
    bundle = Bundle.open(copied)
    for name in ("sets/00000", "sets/00002", "classwise", "grid"):
        (copied / f"{name}.safetensors").write_bytes(b"")
    assert query("tiger - overall", bundle).positive
