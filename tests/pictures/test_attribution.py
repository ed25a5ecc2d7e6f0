from __future__ import annotations

import dataclasses

import pytest
import torch
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from tests.transformers import images, make, traced

from neurochains.errors import DataError, ModelError
from neurochains.pictures import PatchRow, attribution, patches_figure
from neurochains.pictures.attribution import row_normalised


def literal_rollout(maps: list[torch.Tensor]) -> torch.Tensor:
    """Eq. 10 for one image, written out: maps (T, T), one for each block."""
    total, rows = torch.eye(len(maps[0])), []
    for attention in maps:
        total = attention @ total + total
        rows.append(total)
    return torch.stack(rows)


def test_it_is_the_rollout_of_the_maps_that_the_model_gives():
    model = make("hugging face deit unfused")
    told = model(images(), output_attentions=True).attentions
    found = attribution(traced("hugging face deit unfused"), images())
    assert found.shape == (3, 3, 18, 18)
    for image in range(3):
        assert torch.allclose(found[image], literal_rollout([part[image].mean(0) for part in told]), atol=1e-5)


def test_a_model_will_do_and_rows_sum_to_powers_of_two():
    found = attribution(make("bundled"), images(2))
    sums = torch.tensor([2.0, 4.0, 8.0])[None, :, None].expand(2, 3, 17)
    assert torch.allclose(found.sum(-1), sums, atol=1e-4)
    shares = attribution(make("bundled"), images(2), normalise=True)
    assert torch.allclose(shares.sum(-1), torch.ones(()), atol=1e-5)
    assert torch.allclose(shares, row_normalised(found))


def test_dropped_tokens_give_nothing_and_stay_what_they_were():
    kept = torch.ones(2, 3, 17, dtype=torch.bool)
    kept[0, :, 5] = False
    kept[0, 2, 6] = False
    found = attribution(traced("bundled"), images(2), kept=kept)
    whole = attribution(traced("bundled"), images(2))
    assert torch.equal(found[0, :, 5], torch.eye(17)[5].expand(3, -1))
    assert float(found[0, :, 0, 5].abs().max()) < 1e-6
    assert torch.equal(found[0, 2, 6], found[0, 1, 6])
    assert torch.allclose(found[1], whole[1], atol=1e-6)
    assert not torch.allclose(found[0], whole[0], atol=1e-3)


def test_attentions_side_by_side_are_added():
    found = attribution(traced("timm vit parallel"), images(1))
    assert torch.allclose(found[0].sum(-1), torch.tensor([3.0, 9.0, 27.0])[:, None].expand(3, 17), atol=1e-3)


def test_what_cannot_be_attributed_is_refused():
    from tests.architectures import traced as convolutional

    with pytest.raises(ModelError, match="it has no attention"):
        attribution(convolutional("residual"), torch.randn(1, 3, 16, 16))
    with pytest.raises(ModelError, match="Attribution goes from all 16 tokens to all"):
        attribution(traced("timm cait"), images(1))
    with pytest.raises(DataError, match=r"Wanted kept tokens of shape \(1, 3, 17\)"):
        attribution(traced("bundled"), images(1), kept=torch.ones(1, 3, 16, dtype=torch.bool))


def row(blocks: int, *, special: int = 1, name: str = "dalmatian/003.jpg") -> PatchRow:
    kept = torch.rand(blocks, special + 16) < 0.5
    kept = kept.cumprod(0).bool()
    kept[:, :special] = True
    shares = torch.rand(blocks, special + 16, special + 16)
    return PatchRow(name, torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8), kept, shares, (4, 4))


@pytest.mark.parametrize(("count", "blocks", "special"), [(1, 1, 1), (2, 6, 1), (1, 12, 2), (1, 4, 0)])
def test_every_size_is_legible_and_complete(count, blocks, special, legible, words):
    rows = [row(blocks, special=special) for _ in range(count)]
    made = patches_figure(rows, title="Patches of two images")
    legible(made)
    assert len(made.findobj(AxesImage)) == 3 * count * blocks
    frames = [found for found in made.findobj(Rectangle) if found.get_linewidth() == 0.6]
    assert len(frames) == sum(int(one.kept[:, special:].sum()) for one in rows) + count * blocks
    assert ("class token" in words(made)) == bool(special)


def test_of_many_blocks_some_are_shown(legible, words):
    made = patches_figure([row(24)])
    legible(made)
    assert len(made.findobj(AxesImage)) == 3 * 14
    assert {"block 1", "block 24"} <= set(words(made))


def test_the_original_is_shown_beside_it_and_attributions_may_be_missing(legible, words):
    one = row(3)
    both = patches_figure([dataclasses.replace(one, original=one.attribution)])
    legible(both)
    assert {"sub-network", "original"} <= set(words(both))
    assert len(both.findobj(AxesImage)) == 4 * 3
    without = patches_figure([dataclasses.replace(one, attribution=None)])
    assert len(without.findobj(AxesImage)) == 3


def test_wrong_shapes_are_refused():
    with pytest.raises(DataError, match="one number of blocks, 1 or more; got"):
        patches_figure([row(2), row(3)])
    wrong = row(2)
    with pytest.raises(DataError, match=r"expected an attribution \(2, 17, 17\)"):
        patches_figure([PatchRow("a", wrong.pixels, wrong.kept, wrong.attribution[:1], (4, 4))])
