from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from neurochains.decoupling import Decoupled, decouple, find_concepts
from neurochains.decoupling.concepts import _discoveries, _Half, _sign_test
from neurochains.decoupling.hiding import black, hidden_places, hide, read_parts
from neurochains.errors import DataError, SettingsError
from neurochains.network import load_model

SIDE, COUNT = 16, 24
BOXES = {"red": (1, 1, 7, 7), "blue": (9, 9, 15, 15)}


def scenes() -> tuple[Tensor, dict[str, Tensor]]:
    """Noisy images with a red and a blue square; every third lacks the blue one. And where the squares are."""
    images = 0.05 * torch.rand(COUNT, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    masks = {}
    for channel, (name, (top, left, bottom, right)) in zip((0, 2), BOXES.items()):
        mask = torch.zeros(COUNT, SIDE, SIDE, dtype=torch.bool)
        mask[:, top:bottom, left:right] = True
        if name == "blue":
            mask[::3] = False
        images[:, channel][mask] = 1.0
        masks[name] = mask
    return images, masks


def seeing_network() -> Decoupled:
    """Return one whose first filter is on where there is red enough, the second for blue, one ever, one never."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1),
        nn.ReLU(),
        nn.Conv2d(8, 4, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    first = model[0]
    assert isinstance(first, nn.Conv2d)
    with torch.no_grad():
        first.weight.zero_()
        nn.init.zeros_(first.bias)  # type: ignore[arg-type]
        first.weight[0, 0] = first.weight[1, 2] = 1.0
    made = decouple(model.eval(), torch.zeros(2, 3, SIDE, SIDE), layers=["2"])
    controller = made.controllers["2"]
    with torch.no_grad():
        controller.squeeze.weight.copy_(torch.eye(8)[:2])
        controller.squeeze.bias.zero_()
        controller.expand.weight.copy_(torch.tensor([[1.0, 0], [0, 1.0], [0, 0], [0, 0]]))
        controller.expand.bias.copy_(torch.tensor([-0.09, -0.09, 1.0, -1.0]))
    return made


def test_the_filters_of_two_parts_are_found_and_tell_them():
    images, masks = scenes()
    found = find_concepts(seeing_network(), images, masks)
    assert [(row.layer, row.filter, row.part, row.parts) for row in found.found] == [
        ("2", 0, "red", ("red",)),
        ("2", 1, "blue", ("blue",)),
    ]
    for row in found.found:
        assert (row.off, row.recall) == (1.0, 1.0)
        assert row.precision > 0.85
        assert row.control < 0.5
        assert row.chance < 0.6
    assert [(row["part"], row["filters"], row["recall"]) for row in found.summary()] == [
        ("red", 1, 1),
        ("blue", 1, 1),
    ]
    assert found.to_json()["found"][0]["filter"] == 0


def test_boxes_mean_the_same_as_their_masks():
    images, _ = scenes()
    boxes = {name: torch.tensor(box) for name, box in BOXES.items()}
    whole = {name: box.expand(COUNT, 4) for name, box in boxes.items()}
    masks = read_parts(boxes, images)
    assert masks.sum((2, 3)).unique().tolist() == [36]
    assert bool(masks[0, 0, 1:7, 1:7].all())
    assert torch.equal(read_parts(whole, images), masks)


def test_the_places_elsewhere_are_as_large_and_mostly_elsewhere():
    masks = torch.stack(list(scenes()[1].values()))
    places = hidden_places(masks)
    assert torch.equal(places.sum((2, 3)), masks.sum((2, 3)))
    assert float((places & masks).sum()) < 0.1 * float(masks.sum())


def test_precision_and_recall_count_places():
    dice = torch.Generator().manual_seed(1)
    on = torch.rand(6, 3, generator=dice) < 0.7
    switched = (torch.rand(4, 6, 3, generator=dice) < 0.5) & on
    masks = torch.rand(2, 6, 5, 5, generator=dice) < 0.4
    masks[1, 2] = False
    places = torch.rand(4, 6, 5, 5, generator=dice) < 0.5
    precision, recall, chance = _Half(on, switched, masks, places).scores()
    for part, unit in product(range(2), range(3)):
        hits = said = hidden = shown = 0
        for place, image in product(range(4), range(6)):
            if not on[image, unit] or not masks[part, image].any():
                continue
            true = 2 * int((places[place, image] & masks[part, image]).sum()) >= int(masks[part, image].sum())
            off = bool(switched[place, image, unit])
            hits, said, hidden, shown = hits + (true and off), said + off, hidden + true, shown + 1
        assert float(precision[part, unit]) == pytest.approx(hits / said)
        assert float(recall[part, unit]) == pytest.approx(hits / hidden)
        assert float(chance[part, unit]) == pytest.approx(hidden / shown)


def test_the_sign_test_and_the_false_discoveries():
    assert _sign_test(3, 0) == 1 / 8
    assert _sign_test(2, 1) == 0.5
    assert _sign_test(0, 0) == 1.0
    assert _discoveries(torch.tensor([0.01, 0.02, 0.03, 0.9]), 0.05).tolist() == [True, True, True, False]
    assert _discoveries(torch.tensor([0.04, 0.5]), 0.05).tolist() == [False, False]


def test_filters_that_nothing_moves_are_not_found():
    made = seeing_network()
    with torch.no_grad():
        made.controllers["2"].expand.weight.zero_()
    found = find_concepts(made, *scenes())
    assert found.found == ()
    assert math.isnan(found.summary()[0]["precision"])


def test_black_is_what_the_network_sees_of_black_pixels():
    images = torch.zeros(2, 3, 64, 64)
    made = decouple(load_model("shapes:resnet"), images, layers=["layer4.1.conv3"])
    assert black(images, made).tolist() == [-2.0, -2.0, -2.0]
    assert black(images, made, 0.5).tolist() == [0.5, 0.5, 0.5]
    plain = torch.rand(4, 3, SIDE, SIDE)
    assert torch.equal(black(plain, seeing_network()), plain.amin((0, 2, 3)))
    hidden = hide(plain, torch.ones(4, SIDE, SIDE, dtype=torch.bool), torch.tensor([1.0, 2.0, 3.0]))
    assert hidden[:, 2].unique().tolist() == [3.0]
    with pytest.raises(SettingsError, match="one for each of 3 channels; got 2"):
        black(plain, made, [0.1, 0.2])


def test_bad_input():
    images, masks = scenes()
    made = seeing_network()
    with pytest.raises(DataError, match="at least one part"):
        find_concepts(made, images, {})
    with pytest.raises(DataError, match=r"The part 'red' is given by masks \(24, 16, 16\) .*bool \(3, 16, 16\)"):
        find_concepts(made, images, {"red": masks["red"][:3]})
    with pytest.raises(DataError, match="at least 4 images"):
        find_concepts(made, images[:3], {"red": masks["red"][:3]})
    with pytest.raises(SettingsError, match="a share between 0 and 1; got 1"):
        find_concepts(made, images, masks, false_discoveries=1)
