from __future__ import annotations

import copy
import csv
import signal
from dataclasses import replace

import pytest
import torch

from neurochains.decoupling import (
    CropFlip,
    LossWeights,
    TrainSettings,
    decouple,
    lambda_response,
    train_decoupled,
)
from neurochains.decoupling.objective import Objective
from neurochains.decoupling.training import LAST
from neurochains.errors import ArtifactError, DataError, LayerError, SettingsError, TrainingError

SETTINGS = TrainSettings(epochs=3, batch=8, lr=0.05, milestones=(0.34, 0.67), accelerator="cpu")
EXAMPLE = torch.zeros(2, 3, 12, 12)


def state(decoupled):
    return {name: value.clone() for name, value in decoupled.state_dict().items()}


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_training_learns_and_records(tiny, coloured):
    reports = []
    before = copy.deepcopy(tiny.state_dict())
    random = torch.get_rng_state()
    settings = TrainSettings(epochs=12, batch=8, lr=0.05, controller_lr=0.5, accelerator="cpu")
    decoupled = train_decoupled(
        decouple(tiny, EXAMPLE),
        coloured,
        0.25,
        settings=settings,
        loss=LossWeights(sparse=0.1, kept=0.5),
        progress=reports.append,
    )
    assert [report.epoch for report in reports] == list(range(1, 13))
    assert reports[-1].accuracy > 0.9 > reports[0].losses["task"] / 2
    assert reports[-1].on < 0.9
    assert set(reports[0].losses) == {"loss", "task", "mi", "kl", "sparse"}
    assert reports[0].losses["loss"] == pytest.approx(
        reports[0].losses["task"]
        + 0.01 * reports[0].losses["mi"]
        + reports[0].losses["kl"]
        + 0.1 * reports[0].losses["sparse"],
        rel=1e-4,
    )
    assert decoupled.record["settings"]["epochs"] == 12
    assert len(decoupled.record["history"]) == 12
    assert not decoupled.training
    assert torch.equal(torch.get_rng_state(), random)
    assert same(before, tiny.state_dict())
    torch.testing.assert_close(decoupled.dynamic()(coloured[0]), decoupled(coloured[0]).detach(), rtol=0, atol=1e-5)


def test_the_rate_rises_and_then_falls_in_steps(tiny, coloured):
    reports = []
    settings = TrainSettings(epochs=4, batch=12, lr=0.08, warmup=0.25, milestones=(0.5, 0.75), accelerator="cpu")
    train_decoupled(decouple(tiny, EXAMPLE), coloured, 0.25, settings=settings, progress=reports.append)
    assert [report.lr for report in reports] == pytest.approx([0.08, 0.08, 0.008, 0.0008])


def test_a_killed_training_goes_on_to_the_same_end(tiny, coloured, tmp_path):
    def interrupt(report):
        if report.epoch == 2:
            raise KeyboardInterrupt

    options = {"settings": SETTINGS, "augment": CropFlip(padding=1)}
    before = signal.getsignal(signal.SIGINT)
    whole = train_decoupled(decouple(tiny, EXAMPLE), coloured, 0.25, **options)
    with pytest.raises(KeyboardInterrupt):
        train_decoupled(decouple(tiny, EXAMPLE), coloured, 0.25, **options, out=tmp_path, progress=interrupt)
    assert signal.getsignal(signal.SIGINT) is before
    resumed = train_decoupled(decouple(tiny, EXAMPLE), coloured, 0.25, **options, out=tmp_path, resume=True)
    assert same(state(whole), state(resumed))
    losses = [[report["losses"] for report in made.record["history"]] for made in (whole, resumed)]
    assert losses[0] == losses[1]
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[1]["train/loss"]) == losses[0][1]["loss"]


def test_the_last_steps_may_see_the_codes_of_inference(tiny, coloured, monkeypatch):
    seen = []
    whole = Objective.losses

    def watched(self, images, labels):
        seen.append({controller.hashing for controller in self.decoupled.controllers.values()})
        return whole(self, images, labels)

    monkeypatch.setattr(Objective, "losses", watched)
    decoupled = decouple(tiny, EXAMPLE)
    train_decoupled(decoupled, coloured, 0.25, settings=replace(SETTINGS, epochs=4, hard=0.25))
    assert seen == [{True}] * (3 * len(seen) // 4) + [{False}] * (len(seen) // 4)
    assert all(controller.hashing for controller in decoupled.controllers.values())


def test_shares_to_keep_may_be_given_by_label(tiny, coloured):
    decoupled = decouple(tiny, EXAMPLE)
    name = decoupled.layers[0]
    label = decoupled.network.layer(name).label
    assert label != name
    train_decoupled(decoupled, coloured, 0.25, settings=SETTINGS, loss=LossWeights(kept={label: 0.5}))
    assert decoupled.record["loss"]["kept"] == {name: 0.5}


def test_losses_that_weigh_nothing_are_not_computed(tiny, coloured):
    reports = []
    loss = LossWeights(mi=0, kl=0, sparse=0)
    settings = TrainSettings(epochs=1, batch=8, accelerator="cpu")
    train_decoupled(decouple(tiny, EXAMPLE), coloured, 0.25, settings=settings, loss=loss, progress=reports.append)
    assert set(reports[0].losses) == {"loss", "task"}


def test_bfloat16_and_tensorboard(tiny, coloured, tmp_path):
    settings = TrainSettings(epochs=1, batch=8, precision="bf16-mixed", accelerator="cpu")
    options = {"settings": settings, "out": tmp_path, "logs": ("tensorboard",)}
    decoupled = train_decoupled(decouple(tiny, EXAMPLE), coloured, 0.25, **options)
    assert {parameter.dtype for parameter in decoupled.parameters()} == {torch.float32}
    assert list((tmp_path / "tensorboard").glob("events*"))
    assert not (tmp_path / "metrics.csv").exists()


def test_a_diverging_training_stops_and_keeps_the_last_good_epoch(tiny, coloured, tmp_path):
    kept = []
    decoupled = decouple(tiny, EXAMPLE)

    def spoil(report):
        kept.append(state(decoupled))
        with torch.no_grad():
            decoupled.body.get_parameter("w_fc_weight").fill_(float("inf"))

    with pytest.raises(
        TrainingError, match=r"became nan in epoch 2.*as it was after epoch 1.*checkpoint is in.*Lower lr"
    ):
        train_decoupled(decoupled, coloured, 0.25, settings=SETTINGS, out=tmp_path, progress=spoil)
    assert same(kept[0], state(decoupled))
    assert (tmp_path / LAST).exists()
    assert not decoupled.training


def test_a_resumed_training_that_diverges_keeps_what_it_resumed(tiny, coloured, tmp_path):
    def interrupt(report):
        if report.epoch == 1:
            raise KeyboardInterrupt

    options = {"settings": SETTINGS, "out": tmp_path}
    first = decouple(tiny, EXAMPLE)
    with pytest.raises(KeyboardInterrupt):
        train_decoupled(first, coloured, 0.25, **options, progress=interrupt)
    again = decouple(tiny, EXAMPLE)
    nothing = {"augment": lambda images: images * torch.nan, "resume": True}
    with pytest.raises(TrainingError, match=r"became nan in epoch 2.*as it was after epoch 1"):
        train_decoupled(again, coloured, 0.25, **options, **nothing)
    assert same(state(first), state(again))


def test_an_epoch_worse_than_ten_times_guessing_is_divergence(tiny, coloured):
    images, labels = coloured
    with torch.no_grad():
        tiny.fc.weight.mul_(1e4)
    settings = TrainSettings(epochs=1, batch=8, lr=1e-6, accelerator="cpu")
    with pytest.raises(TrainingError, match="the cross entropy of epoch 1 was"):
        train_decoupled(decouple(tiny, EXAMPLE), (images, (labels + 1) % 3), 0.25, settings=settings)


def test_a_checkpoint_of_another_training_is_refused(tiny, coloured, tmp_path):
    settings = TrainSettings(epochs=1, batch=8, accelerator="cpu")
    train_decoupled(decouple(tiny, EXAMPLE), coloured, 0.25, settings=settings, out=tmp_path)
    again = {"settings": settings, "out": tmp_path, "resume": True}
    with pytest.raises(ArtifactError, match=r"holds a training already.*resume=True"):
        train_decoupled(decouple(tiny, EXAMPLE), coloured, 0.25, settings=settings, out=tmp_path)
    with pytest.raises(ArtifactError, match="is of another network, or of other controlled layers"):
        train_decoupled(decouple(tiny, EXAMPLE, layers=["conv1"]), coloured, 0.25, **again)
    with pytest.raises(ArtifactError, match=r"was made with another sparse: 0\.0002 instead of 0\.5"):
        train_decoupled(decouple(tiny, EXAMPLE), coloured, 0.25, loss=LossWeights(sparse=0.5), **again)


def test_the_response_to_a_weight(tiny, coloured, tmp_path):
    settings = TrainSettings(epochs=6, batch=8, lr=0.05, controller_lr=0.5, accelerator="cpu")
    start = decouple(tiny, EXAMPLE)
    before = state(start)
    seen = []
    options = {"val": 0.25, "settings": settings, "out": tmp_path}
    found = lambda_response(start, coloured, coloured, "sparse", (0.0, 0.3), **options, progress=seen.append)
    assert [response.value for response in found] == [0.0, 0.3]
    assert found[1].on < found[0].on
    assert found[1].macs < found[0].macs
    assert found == seen
    assert same(before, state(start))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sparse=0", "sparse=0.3"]
    assert lambda_response(start, coloured, coloured, "sparse", (0.3,), **options) == found[1:]
    with pytest.raises(SettingsError, match=r"Wanted a weight of mi, kl, sparse; got 'spars'\. Did you mean sparse"):
        lambda_response(start, coloured, coloured, "spars", (0.1,))
    with pytest.raises(SettingsError, match="at least one value"):
        lambda_response(start, coloured, coloured, "mi", ())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"momentum": 1.0}, "momentum must be from 0"),
        ({"warmup": 1.0}, "warmup must be a share"),
        ({"hard": 1.5}, "hard must be a share"),
        ({"milestones": (1.5,)}, "milestones must be shares"),
        ({"precision": "64"}, "precision must be one of 32"),
    ],
)
def test_settings_out_of_range(options, message):
    with pytest.raises(SettingsError, match=message):
        TrainSettings(**options)


def test_messages(tiny, coloured, tmp_path):
    images, labels = coloured
    decoupled = decouple(tiny, EXAMPLE)
    with pytest.raises(DataError, match="Wanted labels from 0 to 2, one for each output of the network; got 0 to 3"):
        train_decoupled(decoupled, (images, torch.arange(48) % 4), 0.25)
    with pytest.raises(DataError, match=r"Wanted training images \(N, 3, 12, 12\); got \(2, 3, 8, 8\)"):
        train_decoupled(decoupled, (images[..., :8, :8], labels), 0.25)
    with pytest.raises(DataError, match="48 of the images for validation are among the training images"):
        train_decoupled(decoupled, coloured, coloured)
    with pytest.raises(LayerError, match="No controlled layer is called 'conv'"):
        train_decoupled(decoupled, coloured, loss=LossWeights(kept={"conv": 0.5}))
    for wrong in ({"strategy": "dpp"}, {"accelerator": "abacus"}, {"accelerator": "cpu", "devices": "few"}):
        with pytest.raises(SettingsError, match=f"Training cannot run here with .*{next(reversed(wrong.values()))}"):
            train_decoupled(decoupled, coloured, 0.25, settings=TrainSettings(**wrong))
    with pytest.raises(SettingsError, match="resume=True needs the folder"):
        train_decoupled(decoupled, coloured, 0.25, resume=True)
    with pytest.raises(SettingsError, match="logs must be of csv, tensorboard; got 'wandb'"):
        train_decoupled(decoupled, coloured, 0.25, out=tmp_path, logs=("wandb",))
