from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

import neurochains
from neurochains.chains import Chain, Scores, load_chain
from neurochains.chains.onnx_file import write_onnx
from neurochains.chains.parity import compare_outputs, full_precision
from neurochains.data import Task
from neurochains.errors import ArtifactError, ModelError, ParityError
from neurochains.network import Network
from neurochains.network.info import ModelInfo, attach_info


@pytest.fixture
def chain(striped, stripes_task, draw_scores) -> Chain:
    scores = draw_scores(striped)
    return Chain(
        striped,
        stripes_task,
        scores,
        settings={"seed": 7, "fidelity": 0.05},
        metrics={"kl": 0.0432, "agreement": 1.0, "held_out": {"kl": float("nan")}, "controls": {"random": {"kl": 2.0}}},
        leave_one_out={name: torch.where(values > 0, 0.1 + values, torch.nan) for name, values in scores.units.items()},
        history=[{"step": 0, "divergence": 0.5, "filters": 24, "seconds": 0.1}],
    )


def test_it_says_in_one_line_what_it_is(chain):
    kept = chain.subnetwork.kept
    assert repr(chain) == f"{kept} of 24 filters in 3 of 3 layers, KL 0.043, agreement 1.00"


def test_without_metrics_it_says_its_size(striped, stripes_task):
    scores = Scores({"features": torch.arange(3000).clamp(max=1).float(), "none": torch.zeros(10)})
    assert repr(Chain(striped, stripes_task, scores)) == "2,999 of 3,010 filters in 1 of 2 layers"


def test_its_properties_are_those_of_the_sub_network(striped, stripes_task):
    scores = Scores({"conv1": torch.tensor([0.0, 2.0]), "conv2": torch.zeros(2)}, {"block": 0.0})
    chain = Chain(striped, stripes_task, scores)
    assert {name: kept.tolist() for name, kept in chain.filters.items()} == {"conv1": [1]}
    assert chain.scores["conv1"].tolist() == [0.0, 2.0]
    assert chain.gates == {"block": 0.0}


def test_provenance_says_where_it_comes_from(chain, stripes_task):
    origin = chain.provenance
    assert origin["packages"]["torch"] == torch.__version__
    assert origin["packages"]["neurochains"] == neurochains.__version__
    assert origin["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert origin["created"].endswith("+00:00")
    assert origin["model"] == {
        "name": None, "weights": None, "digest": chain.network.digest, "input": [1, 12, 12], "outputs": 3
    }  # fmt: skip
    assert origin["images"] == {"names": list(stripes_task.names), "digests": list(stripes_task.digests)}
    assert len(origin["held_out"]["digests"]) == 6
    assert origin["classes"] == {"0": "across", "1": "down", "2": "checkers"}
    assert origin["seed"] == 7


def test_the_compact_network_computes_what_the_scores_say(chain, stripes_task):
    small = chain.compact()
    wanted = chain.subnetwork.run(chain.network, stripes_task.images)
    torch.testing.assert_close(small(stripes_task.images), wanted, rtol=1e-4, atol=1e-4)
    assert isinstance(small, nn.Module)
    assert sum(value.numel() for value in small.buffers()) < sum(v.numel() for v in chain.network.module.buffers())
    assert chain.metrics["parity"] == chain.check_parity() <= 1e-4


def test_a_compact_network_that_computes_something_else_is_refused(chain, monkeypatch):
    other = Scores({name: values * 1.001 for name, values in chain.subnetwork.units.items()})
    monkeypatch.setattr(Scores, "compact", lambda self, network: lambda images: other.run(network, images))
    for check in (chain.compact, chain.check_parity):
        with pytest.raises(
            ParityError, match=r"compact sub-network differs .* of the range of the logits; at most 1e-04"
        ):
            check()


@pytest.mark.parametrize(("off", "fine"), [(0.0009, True), (0.0011, False), (float("nan"), False)])
def test_parity_is_relative_to_the_range_of_the_logits(off, fine):
    wanted = torch.tensor([[0.0, 10.0], [5.0, 5.0]])
    given = wanted + torch.tensor([[0.0, 0.0], [0.0, off]])
    if fine:
        assert compare_outputs(given, wanted, what="it") == pytest.approx(off / 10, rel=1e-3)
    else:
        with pytest.raises(ParityError, match="it differs"):
            compare_outputs(given, wanted, what="it")


def test_constant_logits_have_parity_too():
    assert compare_outputs(torch.ones(2, 3), torch.ones(2, 3), what="it") == 0


def test_the_precision_of_products_is_set_back_after_a_failure():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    with pytest.raises(KeyError), full_precision():
        raise KeyError
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before


def test_models_are_traced_while_another_thread_is_precise(stripes_model, stripes_task):
    """torch.export reads the switches, and refuses combinations that only some ways of setting them give."""
    with full_precision():
        assert not torch.backends.cudnn.allow_tf32
        Network.trace(stripes_model, stripes_task.images)


def test_of_several_threads_the_last_sets_the_precision_back():
    before = torch.backends.cudnn.allow_tf32
    one, other = full_precision(), full_precision()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert not torch.backends.cudnn.allow_tf32
    other.__exit__(None, None, None)
    assert torch.backends.cudnn.allow_tf32 == before


def test_a_user_may_have_set_the_newer_switches():
    conv = torch.backends.cudnn.conv
    before = conv.fp32_precision, torch.backends.cudnn.rnn.fp32_precision
    try:
        conv.fp32_precision = "ieee"
        with full_precision():
            assert torch.backends.cudnn.rnn.fp32_precision == "ieee"
        assert conv.fp32_precision == "ieee"
        assert torch.backends.cudnn.rnn.fp32_precision == before[1]
    finally:
        conv.fp32_precision = before[0]


def assert_same(one: Task, other: Task) -> None:
    for name in ("images", "labels", "pixels"):
        assert getattr(one, name).equal(getattr(other, name))
    for name in ("names", "digests", "class_names", "synsets"):
        assert getattr(one, name) == getattr(other, name)


def test_a_saved_chain_comes_back(chain, stripes_model, tmp_path):
    folder = chain.save(tmp_path / "a")
    back = load_chain(folder, model=stripes_model)
    assert list(back.scores) == list(chain.scores) == ["conv1", "conv2", "conv3"]
    for name, values in chain.scores.items():
        assert back.scores[name].equal(values)
        torch.testing.assert_close(back.leave_one_out[name], chain.leave_one_out[name], equal_nan=True)
    assert back.settings == chain.settings
    assert back.provenance == chain.provenance
    assert back.history == chain.history
    assert back.metrics == {**chain.metrics, "held_out": {"kl": None}}
    assert_same(back.task, chain.task)
    assert_same(back.task.held_out, chain.task.held_out)
    assert repr(back) == repr(chain)
    torch.testing.assert_close(back.compact()(back.task.images), chain.compact()(chain.task.images))
    assert Chain.load(folder, model=stripes_model, device="cpu").gates == {}


def test_the_document_names_the_kept_filters_by_label(chain, tmp_path):
    document = json.loads((chain.save(tmp_path / "a") / "chain.json").read_text())
    labels = {chain.network.layer(name).label: kept.tolist() for name, kept in chain.filters.items()}
    assert document["filters"] == labels
    assert document["provenance"] == chain.provenance


def test_gates_and_a_bare_task_come_back(mixed, draw_scores, tmp_path):
    task = Task(torch.randn(3, 3, 12, 12))
    chain = Chain(mixed, task, Scores(draw_scores(mixed).units, {mixed.blocks[0].name: 0.0}))
    folder = chain.save(tmp_path / "a")
    from tests.chains.conftest import Mixed

    torch.manual_seed(0)
    back = load_chain(folder, model=Mixed().eval())
    assert back.gates == chain.gates
    assert back.task.labels is None
    assert back.task.held_out is None
    torch.testing.assert_close(back.compact()(task.images), chain.compact()(task.images))


def test_a_chain_is_replaced_only_by_force(chain, stripes_model, tmp_path):
    folder = chain.save(tmp_path / "a")
    chain.settings["seed"] = 8
    with pytest.raises(ArtifactError, match="--force"):
        chain.save(folder)
    assert load_chain(folder, model=stripes_model).settings["seed"] == 7
    chain.save(folder, force=True)
    assert load_chain(folder, model=stripes_model).settings["seed"] == 8


def test_other_weights_are_refused(chain, stripes_model, tmp_path):
    folder = chain.save(tmp_path / "a")
    other = type(stripes_model)().eval()
    digest = Network.trace(other, chain.task.images).digest
    with pytest.raises(
        ArtifactError, match=f"their digest is {chain.network.digest}, that of the model at hand {digest}"
    ):
        load_chain(folder, model=other)


def test_a_model_without_a_name_must_be_given(chain, tmp_path):
    with pytest.raises(ArtifactError, match=r"of a model without a name. Pass it: load_chain\(folder, model=...\)"):
        load_chain(chain.save(tmp_path / "a"))


def test_the_code_of_a_file_is_run_only_when_it_is_named(stripes_model, stripes_task, draw_scores, tmp_path):
    code = tmp_path / "mine.py"
    code.write_text(f"def build():\n    open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    attach_info(stripes_model, ModelInfo(f"{code}:build"))
    try:
        network = Network.trace(stripes_model, stripes_task.images)
    finally:
        del stripes_model.neurochains_info
    folder = Chain(network, stripes_task, draw_scores(network)).save(tmp_path / "a")
    with pytest.raises(ArtifactError, match=r"mine.py:build', which is code of one's own. Pass it"):
        load_chain(folder)
    assert not (tmp_path / "ran").exists()


def test_a_model_of_the_zoo_is_loaded_by_its_name(tmp_path, draw_scores):
    model = neurochains.load_model("shapes:vgg", pretrained=False)
    task = Task.shapes(2)
    network = Network.trace(model, task.images)
    folder = Chain(network, task, draw_scores(network)).save(tmp_path / "a")
    back = load_chain(folder)
    assert back.network.digest == network.digest
    assert back.network.info.name == "shapes:vgg"
    assert load_chain(folder, model=model).network.digest == network.digest


def test_weights_of_a_file_that_is_gone_are_asked_for(tmp_path, draw_scores):
    model = neurochains.load_model("shapes:vgg", pretrained=False)
    attach_info(model, ModelInfo("shapes:vgg", weights=f"file {tmp_path / 'gone.safetensors'}"))
    task = Task.shapes(2)
    network = Network.trace(model, task.images)
    folder = Chain(network, task, draw_scores(network)).save(tmp_path / "a")
    with pytest.raises(ArtifactError, match=r"came from .*gone.safetensors, which is not there. Pass model="):
        load_chain(folder)


@pytest.mark.parametrize("key", ["task", "provenance", "history"])
def test_a_document_that_lacks_a_part_is_damaged(chain, stripes_model, tmp_path, key):
    folder = chain.save(tmp_path / "a")
    document = json.loads((folder / "chain.json").read_text())
    del document[key]
    (folder / "chain.json").write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match=f"chain.json is damaged: '{key}' is missing"):
        load_chain(folder, model=stripes_model)


def test_a_task_that_does_not_fit_its_names_is_damaged(chain, stripes_model, tmp_path):
    folder = chain.save(tmp_path / "a")
    document = json.loads((folder / "chain.json").read_text())
    document["task"]["names"].pop()
    (folder / "chain.json").write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match="The saved task is damaged"):
        load_chain(folder, model=stripes_model)


def test_its_paths_are_those_of_the_sub_network(chain):
    found = chain.paths(1)
    assert set(found) == {0, 1, 2}
    kept = set(chain.subnetwork.list_filters())
    assert {unit for routes in found.values() for path in routes for unit in path.filters} <= kept


def test_an_onnx_file_computes_the_same_for_any_batch(chain, stripes_task, tmp_path, capfd):
    onnxruntime = pytest.importorskip("onnxruntime")
    parity = chain.to_onnx(tmp_path / "deep" / "small.onnx")
    assert parity <= 1e-4
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["small.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "deep" / "small.onnx", providers=["CPUExecutionProvider"])
    wanted = chain.subnetwork.run(chain.network, stripes_task.images)
    for batch in (1, 5):
        (logits,) = session.run(["logits"], {"images": stripes_task.images[:batch].numpy()})
        np.testing.assert_allclose(logits, wanted[:batch].numpy(), rtol=1e-3, atol=1e-3)


def test_an_onnx_file_that_computes_something_else_is_not_kept(chain, stripes_task, tmp_path):
    pytest.importorskip("onnxruntime")
    wanted = chain.subnetwork.run(chain.network, stripes_task.images) + 1
    with pytest.raises(ParityError, match=r"a.onnx under onnxruntime differs"):
        write_onnx(chain.compact(), stripes_task.images, wanted, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_it_says_what_to_install(chain, tmp_path, monkeypatch):
    monkeypatch.setattr("neurochains.chains.onnx_file.find_spec", lambda name: None if name == "onnxruntime" else name)
    with pytest.raises(ModelError, match=r"onnxruntime must be installed: pip install 'neurochains\[onnx\]'"):
        chain.to_onnx(tmp_path / "a.onnx")


def test_the_network_and_the_model_are_left_as_they_were(chain, stripes_model, tmp_path):
    before = {name: value.clone() for name, value in stripes_model.state_dict().items()}
    chain.compact()
    chain.save(tmp_path / "a")
    chain.paths(1)
    assert not stripes_model.training
    for name, value in stripes_model.state_dict().items():
        assert value.equal(before[name])
    assert not any(parameter.requires_grad for parameter in stripes_model.parameters())
