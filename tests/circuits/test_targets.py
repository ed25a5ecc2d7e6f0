"""Targets: how they are written, what they come to for each image, and what is refused."""

from __future__ import annotations

import pytest
import torch
from tests.architectures import build, images, traced
from torch.nn import functional as F

from neurochains.circuits import Target
from neurochains.edit import tap
from neurochains.errors import DataError, LayerError, SettingsError
from neurochains.network import Network


@pytest.mark.parametrize(
    ("text", "layer", "unit", "position"),
    [
        ("loss", None, None, "mean"),
        ("Logit: 3", None, 3, "mean"),
        ("a.0[2]", "a.0", 2, "mean"),
        ("A.0[2]@max", "a.0", 2, "max"),
        ("a.0_2 @ Center", "a.0", 2, "centre"),
        ("L1[7]@3,15", "a.0", 7, (3, 15)),
        ("b[0]@mean", "b", 0, "mean"),
        ("head[4]@max", "head", 4, "max"),
    ],
)
def test_a_target_is_read(text, layer, unit, position):
    target = Target.parse(text, traced("residual"))
    assert (target.layer and target.layer.name, target.unit, target.position) == (layer, unit, position)
    assert target.direction is None
    assert Target.parse(target, traced("residual")) == target


def test_a_target_of_another_network_is_looked_up():
    network, other = traced("residual"), Network.trace(build("residual"), images(1))
    for text, vector in (("c.0[5]@max", None), ("c.0:direction", torch.linspace(0, 1, 12)), ("logit:2", None)):
        target = Target.parse(text, other, direction=vector)
        again = Target.parse(target, network)
        assert (again.text, again.unit, again.position) == (target.text, target.unit, target.position)
        assert again.direction == target.direction
        assert again.layer is (target.layer and network.layer("c.0"))
    with pytest.raises(LayerError, match=r"No layer is called 'c.0'"):
        Target.parse(Target.parse("c.0[5]", other), traced("flattened"))
    with pytest.raises(SettingsError, match="The network has 5 logits"):
        Target.parse(Target("logit:9", unit=9), network)


def test_the_number_of_a_call_is_no_position():
    network = traced("reused")
    for text in ("shared.0@1[3]", "shared.0@1_3", "L2_3"):
        assert Target.parse(text, network).layer.name == "shared.0@1"
    target = Target.parse("shared.0@1[3]@2,5", network)
    assert (target.layer.name, target.position) == ("shared.0@1", (2, 5))
    assert Target.parse("shared.0@1:direction@max", network, direction=torch.ones(6)).position == "max"


def test_the_values_are_one_for_each_image():
    network, batch = traced("residual"), images(3)
    logits, maps = tap(network, ["c.0"])(batch)
    own = maps["c.0"][:, 5]

    def values(text, **options):
        return Target.parse(text, network, **options).values(logits, maps, torch.tensor([4, 0, 1]))

    torch.testing.assert_close(values("c.0[5]"), own.mean((1, 2)))
    torch.testing.assert_close(values("c.0[5]@max"), own.amax((1, 2)))
    torch.testing.assert_close(values("c.0[5]@centre"), own[:, 4, 4])
    torch.testing.assert_close(values("c.0[5]@1,6"), own[:, 1, 6])
    torch.testing.assert_close(values("logit:2"), logits[:, 2])
    torch.testing.assert_close(values("loss"), F.cross_entropy(logits, torch.tensor([4, 0, 1]), reduction="none"))
    vector = torch.linspace(-1, 1, 12)
    along = torch.einsum("bohw,o->bhw", maps["c.0"], vector.double())
    torch.testing.assert_close(values("c.0:direction@7,0", direction=vector), along[:, 7, 0])
    torch.testing.assert_close(values("c.0:direction", direction=vector), along.mean((1, 2)))


@pytest.mark.parametrize(
    ("name", "layer"), [("windows", "mix"), ("tokens first", "mix"), ("channels last", "up"), ("tokens", "mlp.0")]
)
def test_maps_of_other_shapes_are_read_image_by_image(name, layer):
    network, batch = traced(name), images(3)
    for text in (f"{layer}[2]", f"{layer}[2]@max"):
        target = Target.parse(text, network)
        whole = target.values(None, tap(network, [layer])(batch)[1])
        single = [target.values(None, tap(network, [layer])(batch[i : i + 1])[1]) for i in range(3)]
        assert whole.shape == (3,)
        torch.testing.assert_close(whole, torch.cat(single))


def test_a_target_knows_the_units_it_is_made_of():
    network = traced("residual")
    one = Target.parse("c.0[5]", network)
    assert one.reads(network.layer("c.0")).nonzero().tolist() == [[5]]
    assert one.reads(network.layer("b")) is None
    vector = torch.zeros(12).index_fill(0, torch.tensor([1, 3]), -2.0)
    several = Target.parse("c.0:direction", network, direction=vector)
    assert several.reads(network.layer("c.0")).nonzero().flatten().tolist() == [1, 3]
    assert Target.parse("loss", network).reads(network.layer("c.0")) is None
    assert several != Target.parse("c.0:direction", network, direction=-vector)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("los", LayerError, 'A target is written "loss", "logit:3", .*; got \'los\'. Did you mean loss?'),
        ("c.0", LayerError, r"A target is written .* Did you mean c\.0\[0\]"),
        ("c.1[5]", LayerError, r"No layer is called 'c.1'. Did you mean c.0"),
        ("c.0[12]", LayerError, r"c.0 \(L\d\) has 12 filters, 0 to 11; got 12"),
        ("c.0[3]@8,0", SettingsError, "The map of c.0 has 8 rows and 8 columns, counted from 0; got 'c.0\\[3\\]@8,0'"),
        ("c.0[3]@0,8", SettingsError, "8 rows and 8 columns"),
        ("c.0[3]@maxx", SettingsError, r"A position is written @mean, @max, @centre or @h,w .*Did you mean max\?"),
        ("head[1]@centre", SettingsError, "head has no rows and columns, so a target there is the mean or the @max"),
        ("logit:5", SettingsError, "The network has 5 logits, 0 to 4; got 'logit:5'"),
        ("logit:cat", SettingsError, "A logit is written logit:3, by its index; got 'logit:cat'"),
        ("logit:1@max", SettingsError, "'logit:1' has no map, so no position either"),
        ("c.0:direction", SettingsError, r"'c.0:direction' needs a vector \(12,\)"),
        ("d.0:direction", LayerError, "No layer is called 'd.0'"),
    ],
)
def test_what_means_nothing_is_refused(text, error, message):
    with pytest.raises(error, match=message):
        Target.parse(text, traced("residual"))


@pytest.mark.parametrize("vector", [torch.ones(11), torch.zeros(12), torch.full((12,), torch.nan), torch.ones(12, 1)])
def test_a_direction_fits_its_layer(vector):
    with pytest.raises(SettingsError, match=r"A direction in c.0 is a vector \(12,\) of finite numbers, not all 0"):
        Target.parse("c.0:direction", traced("residual"), direction=vector)
    with pytest.raises(SettingsError, match='A direction goes with a target "LAYER:direction"'):
        Target.parse("c.0[1]", traced("residual"), direction=vector)


@pytest.mark.parametrize(("labels", "unknown"), [(None, 3), (torch.tensor([0, -1, -1]), 2)])
def test_the_loss_needs_labels(labels, unknown):
    network = traced("residual")
    with pytest.raises(DataError, match=f"the label of each image; {unknown} of 3 have none"):
        Target.parse("loss", network).values(network(images(3)), {}, labels)
    with pytest.raises(DataError, match="made from the logits, and none were given"):
        Target.parse("logit:1", network).values(None, {})
