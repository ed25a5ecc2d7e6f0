from __future__ import annotations

import pytest
import torch
from tests.architectures import build as convolutional
from tests.transformers import images, make

import neurochains as nc
from neurochains.chains import OBJECTIVES
from neurochains.chains.patch_network import PatchedNetwork
from neurochains.errors import DataError, ModelError, SettingsError

KL = OBJECTIVES["kl"]


@pytest.fixture(scope="module")
def chain() -> nc.Chain:
    return nc.extract(make("bundled"), images(5), units=("patches",), fidelity=0.05)


def test_patches_alone_leave_the_network_as_it_is(chain):
    assert chain.patches.shape == (5, 3, 17)
    assert chain.patches.dtype is torch.bool
    assert bool(chain.patches[:, :, 0].all())
    assert bool((chain.patches[:, 1:] <= chain.patches[:, :-1]).all())
    assert chain.subnetwork.total == 0
    assert chain.metrics["agreement"] == 1.0
    measured = chain.metrics["patches"]
    assert measured["kept"] == int(chain.patches[:, :, 1:].sum())
    assert (measured["of"], measured["patches"]) == (5 * 3 * 16, 16)
    assert measured["dropped_median"] == pytest.approx(
        float(1 - chain.patches[..., 1:].double().mean((1, 2)).median()), abs=0.05
    )
    assert set(chain.metrics["controls"]) == {"random_patches", "attended_patches"}
    assert "tokens of 5 images" in repr(chain)


def test_the_compact_chain_drops_the_tokens(chain):
    small = chain.compact()
    assert isinstance(small, PatchedNetwork)
    divergence = KL(small(images(5)), make("bundled")(images(5)))
    assert float(divergence.max()) <= 0.05 * 1.001
    assert float(divergence.mean()) == pytest.approx(chain.metrics["kl"], abs=1e-5)
    one = small(images(5)[2:3], chain.patches[2:3])
    assert torch.allclose(one[0], small(images(5))[2], atol=1e-5)
    with pytest.raises(DataError, match="these are for 5 images, got 2"):
        small(images(5)[:2])
    assert chain.check_parity() < 1e-5


def test_a_saved_chain_comes_back_with_its_patches(chain, tmp_path):
    chain.save(tmp_path / "chain")
    again = nc.load_chain(tmp_path / "chain", model=make("bundled"))
    assert torch.equal(again.patches, chain.patches)
    assert again.metrics["patches"]["kept"] == chain.metrics["patches"]["kept"]
    assert torch.allclose(again.compact()(images(5)), chain.compact()(images(5)))


def test_heads_hidden_units_and_patches_go_together(tmp_path):
    units = ("heads", "hidden", "patches")
    chain = nc.extract(make("bundled"), images(4), units=units, fidelity=0.2, controls=False, refit=5)
    assert {chain.network.layer(name).role for name in chain.scores} == {"heads", "hidden"}
    assert chain.subnetwork.kept < chain.subnetwork.total
    assert chain.patches is not None
    divergence = KL(chain.compact()(images(4)), make("bundled")(images(4)))
    assert float(divergence.mean()) == pytest.approx(chain.metrics["kl"], abs=1e-4)
    assert float(divergence.mean()) <= 0.2 * 1.001
    chain.save(tmp_path / "chain")
    again = nc.load_chain(tmp_path / "chain", model=make("bundled"))
    assert list(again.scores) == list(chain.scores)
    assert torch.allclose(again.compact()(images(4)), chain.compact()(images(4)), atol=1e-5)


def test_the_papers_recipe_searches_patches_too():
    options = {"method": "paper", "steps": 12, "lam": 1e-5, "threshold": 0.97, "controls": False}
    chain = nc.extract(make("bundled"), images(3), units=("patches",), **options)
    assert 0 < int(chain.patches[:, :, 1:].sum()) < 3 * 3 * 16
    assert chain.metrics["patches"]["minimal"] is None


def test_attribution_takes_the_patches_of_a_chain(chain):
    shares = nc.attribution(chain.network, chain.task, kept=chain.patches)
    assert shares.shape == (5, 3, 17, 17)


def test_what_makes_no_sense_with_patches_is_refused(chain, tmp_path):
    with pytest.raises(SettingsError, match="size counts units that all images share"):
        nc.extract(make("bundled"), images(3), units=("patches",), size=5)
    with pytest.raises(SettingsError, match="objective='kl'; got 'mse'"):
        nc.extract(make("bundled"), images(3), units=("patches",), objective="mse")
    with pytest.raises(ModelError, match="it has no attention"):
        nc.extract(convolutional("residual").float(), images(3), units=("patches",))
    with pytest.raises(ModelError, match=r".2, 3, 24, 24.*pos_embed \(1, 17, 24\), fits images of one size"):
        nc.extract(make("bundled"), torch.randn(3, 3, 24, 24), units=("patches",))
    with pytest.raises(ModelError, match=r"position embedding, pos_embed \(1, 65, 96\), fits images of 64 x 64 pixels"):
        nc.extract("shapes:vit", torch.randn(3, 3, 48, 48), units=("patches",))
    with pytest.raises(ModelError, match="patches are kept for each image"):
        chain.to_onnx(tmp_path / "x.onnx")


def test_the_bundled_transformer_needs_few_patches():
    chain = nc.extract("shapes:vit", nc.Task.shapes(8, seed=0), units=("patches",))
    assert chain.patches.shape == (8, 4, 65)
    assert chain.metrics["agreement"] == 1.0
    assert chain.metrics["kl"] <= 0.05
    assert chain.metrics["patches"]["dropped_median"] >= 0.9
    assert all(values["kl"] > 5 * chain.metrics["kl"] for values in chain.metrics["controls"].values())


def test_the_bundled_transformer_needs_few_hidden_units():
    chain = nc.extract("shapes:vit", nc.Task.shapes(16, seed=0), units=("heads", "hidden"), controls=False)
    hidden = torch.cat([chain.scores[layer.name] for layer in chain.network.layers if layer.role == "hidden"])
    assert chain.metrics["kl"] <= 0.05
    assert float((hidden != 0).float().mean()) <= 0.35
    small, images = chain.compact(), nc.Task.shapes(16, seed=0).images
    with torch.no_grad():
        assert float(KL(small(images), nc.load_model("shapes:vit")(images)).mean()) <= 0.05 * 1.001
