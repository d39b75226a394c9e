"""Training: histories, early stopping, guards, checkpoints; a resumed run ends as the one that was never stopped."""

import csv
import dataclasses
import inspect
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tolerances import assert_sums

import minivae as mv
from minivae.errors import UsageError, UsageWarning
from minivae.evaluation.bounds import evaluate
from minivae.training import checkpoint
from minivae.training.history import COLUMNS, TIMES
from minivae.training.options import Options

ROOT = Path(__file__).resolve().parent.parent
RNG = np.random.default_rng(0)


def stripes(n=230):
    """0/1 pictures 4 × 4 with two bits in them: a row or a column is on."""
    X = np.zeros((n, 4, 4), np.float32)
    X[np.arange(n), RNG.integers(0, 4, n)] = 1
    X[::2] = X[::2].transpose(0, 2, 1)
    return X.reshape(n, 16)


X = stripes()


def model(**more):
    return mv.VAE(16, **{"latent_dim": 2, "hidden": (12,), "backend": "numpy", "seed": 3} | more)


def fit(vae=None, data=X, **options):
    return (vae or model()).fit(data, **{"epochs": 3, "batch_size": 50, "progress": False} | options)


# ---- what it does ---------------------------------------------------------------------------------------------------


def test_the_elbo_rises_far_above_the_first_epochs():
    history = fit(epochs=60, optimizer=mv.Adam(1e-2))
    assert history["elbo"][-1] > history["elbo"][0] + 3


def test_history_has_every_column_and_its_numbers_agree():
    history = fit(validation=X[:40], beta=0.5, optimizer=mv.Adam(1e-3))
    assert list(history.rows[0]) == list(COLUMNS)
    for row in history.rows:
        assert row["elbo"] == pytest.approx(-(row["nll"] + row["kl"]))
        assert row["loss"] == pytest.approx(row["nll"] + 0.5 * row["kl"])
        assert row["bound"] == "no"
    assert history["step"] == [5, 10, 15]
    assert history["epoch"] == [1, 2, 3]


def test_validation_is_evaluate():
    vae = model()
    history = fit(vae, validation=X[:40], epochs=1)
    assert history["val_elbo"][-1] == evaluate(vae, X[:40]).elbo


def test_an_epoch_visits_every_row_once_in_another_order_each_time(monkeypatch):
    seen = []
    real = mv.VAE.step
    monkeypatch.setattr(
        mv.VAE,
        "step",
        lambda self, batch, *more: (seen.append(batch.rows.copy()), real(self, batch, *more))[1],
    )
    fit(epochs=2)
    first, second = np.concatenate(seen[:5]), np.concatenate(seen[5:])
    assert sorted(first) == sorted(second) == list(range(230))
    assert not np.array_equal(first, second)
    assert [len(rows) for rows in seen[:5]] == [50, 50, 50, 50, 30]


@pytest.mark.parametrize("kind", ["dynamic", "static", "threshold"])
def test_binarisation(kind, monkeypatch):
    seen = []
    real = mv.VAE.step

    def watch(self, batch, *more):
        seen.append(dict(zip(batch.rows.tolist(), batch.X.copy(), strict=True)))
        return real(self, batch, *more)

    monkeypatch.setattr(mv.VAE, "step", watch)
    grey = RNG.random((50, 16)).astype(np.float32)
    fit(data=grey, epochs=2, binarize=kind)
    first, second = (np.array([batch[i] for i in range(50)]) for batch in seen)
    assert set(np.unique(first)) == {0, 1}
    assert np.array_equal(first, second) == (kind != "dynamic")
    if kind == "threshold":
        np.testing.assert_array_equal(first, grey >= 0.5)
    else:
        assert abs(first.mean() - grey.mean()) < 0.05


def test_evaluation_binarises_once_so_that_its_figure_is_one_number():
    grey = RNG.random((300, 16)).astype(np.float32)
    vae = model()
    first = evaluate(vae, grey, binarize="dynamic")
    vae.passes = 17
    assert evaluate(vae, grey, binarize="dynamic") == first


def test_batch_sizes_of_evaluation_change_nothing(monkeypatch):
    vae = model(dtype="float64")
    whole = evaluate(vae, X)
    monkeypatch.setattr("minivae.evaluation.bounds.BATCH_ROWS", 7)
    assert evaluate(vae, X).elbo == pytest.approx(whole.elbo, rel=1e-13)


def test_scaling_keeps_nats_in_the_datas_own_units():
    """The same data in metres and in millimetres: standardised, the fit is the same; the nll differs by D ln 1000."""
    data = RNG.normal(size=(200, 3)) * [1, 2, 3] + 5
    results = []
    for unit in (1.0, 1000.0):
        vae = mv.VAE(3, 1, (4,), likelihood="gaussian", dtype="float64", backend="numpy")
        scale = mv.Scale.fit("standard", unit * data)
        history = vae.fit(unit * data, epochs=2, scale=scale, validation=unit * data[:50], progress=False)
        results.append((history["nll"][-1], history["val_nll"][-1], evaluate(vae, unit * data, scale=scale).nll))
    assert_sums(np.subtract(*results[::-1]), 3 * np.log(1000), of="training")


def test_uint8_and_memory_mapped_rows_train_as_float_rows_do(tmp_path):
    np.save(tmp_path / "x.npy", X.astype(np.uint8))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    losses = [fit(data=data)["loss"] for data in (X, X.astype(np.uint8), mapped)]
    assert losses[0] == losses[1] == losses[2]


def test_the_number_of_rows_in_a_batch_changes_no_noise(monkeypatch):
    """ε of row 7 in epoch 1 is the same whether 10 rows or 100 are in its batch."""
    rows = {}
    real = mv.VAE.epsilon

    def watch(self, eps, B, stream, numbers, pass_):
        out = real(self, eps, B, stream, numbers, pass_)
        if stream == "posterior" and pass_ == 1:
            rows.setdefault(size, {}).update(zip(numbers.tolist(), out[0].copy(), strict=True))
        return out

    monkeypatch.setattr(mv.VAE, "epsilon", watch)
    for size in (10, 100):
        fit(epochs=1, batch_size=size)
    for i in range(230):
        np.testing.assert_array_equal(rows[10][i], rows[100][i])


def test_schedule_and_warm_up_reach_the_steps():
    history = fit(epochs=4, schedule="milestones:2:0.5", beta=mv.Beta(1.0, warmup=2), optimizer=mv.SGD(0.01))
    assert history["lr"] == pytest.approx([0.01, 0.01, 0.005, 0.005])
    assert history["beta"] == pytest.approx([0.4, 0.9, 1, 1])
    assert history["bound"] == ["no", "no", "yes", "yes"]


def test_free_bits_are_counted_in_the_loss():
    history = fit(epochs=1, free_bits=5.0)
    assert history["loss"][0] == pytest.approx(history["nll"][0] + 2 * 5.0)


def test_clamped_log_variances_are_counted_and_reported():
    vae = mv.VAE(3, 1, (4,), likelihood="gaussian", backend="numpy")
    vae.parameters["decoder.1.b"][3:] = -20
    assert fit(vae, data=np.zeros((60, 3)), epochs=1)["clamped"][0] > 0
    assert vae.likelihood.clamped[0] == 0
    evaluate(vae, np.zeros((60, 3)))
    assert vae.likelihood.clamped[0] == 0, "evaluation is not training"


def test_a_loss_is_called_a_bound_only_where_beta_was_one_in_every_step():
    assert fit(epochs=3, beta=mv.Beta(1, warmup=0.5))["bound"] == ["no", "yes", "yes"]
    assert fit(epochs=2, beta=mv.Beta(1, cycle=1))["bound"] == ["no", "no"]


def test_a_callback_that_evaluates_the_model_changes_no_history():
    data = np.zeros((60, 3))
    histories = []
    for look in (lambda vae: None, lambda vae: (vae.objective(data), vae.log_likelihood(data, samples=3))):
        vae = mv.VAE(3, 1, (4,), likelihood="gaussian", backend="numpy")
        vae.parameters["decoder.1.b"][3:] = -20
        histories.append(fit(vae, data=data, callback=lambda row, vae=vae, look=look: look(vae))["clamped"])
    assert histories[0] == histories[1]


def test_numpys_numbers_count_as_numbers_and_can_be_saved(tmp_path):
    vae = mv.VAE(np.int64(16), np.int32(2), np.array([12]), backend="numpy", samples=np.int64(1))
    fit(
        vae, batch_size=np.int64(50), clip=np.float32(0.5), optimizer=mv.Adam(np.float32(1e-3)), run=tmp_path / "r",
        beta=np.float64(1),
    )  # fmt: skip
    vae.save(tmp_path / "m.safetensors")
    assert mv.VAE.load(tmp_path / "m.safetensors").config() == vae.config()


def test_callback_gets_each_row():
    rows = []
    history = fit(callback=rows.append)
    assert rows == history.rows


# ---- early stopping -------------------------------------------------------------------------------------------------


def ruin_after(vae, epoch):
    """A callback that spoils the model once that epoch is over: from there on it gets no better than it was."""

    def callback(row):
        if row["epoch"] == epoch:
            vae.parameters["decoder.1.b"][...] += 8

    return callback


def test_patience_stops_and_the_model_keeps_the_best(tmp_path):
    vae = model()
    history = fit(
        vae, epochs=50, validation=X[:60], patience=3, run=tmp_path / "r", optimizer=mv.SGD(1e-3),
        callback=ruin_after(vae, 4),
    )  # fmt: skip
    assert history.stopped == "patience"
    best = int(np.argmax(history["val_elbo"])) + 1
    assert history.best_epoch == best == 4
    assert len(history) == 7
    assert evaluate(vae, X[:60]).elbo == history["val_elbo"][best - 1]
    loaded = {which: mv.VAE.load(tmp_path / "r/model.safetensors", which=which) for which in ("best", "last")}
    assert evaluate(loaded["best"], X[:60]).elbo == history["val_elbo"][best - 1]
    assert evaluate(loaded["last"], X[:60]).elbo == history["val_elbo"][-1]


def test_patience_counts_after_the_warm_up():
    vae = model()
    history = fit(
        vae, epochs=20, validation=X[:60], patience=1, optimizer=mv.SGD(1e-3), beta=mv.Beta(1, warmup=6),
        callback=ruin_after(vae, 1),
    )  # fmt: skip
    assert history["val_elbo"][0] > max(history["val_elbo"][1:])
    assert len(history) > 6
    assert history.best_epoch >= 6


def test_patience_starts_again_after_each_improvement(monkeypatch):
    from minivae.evaluation.bounds import Evaluation

    script = iter([-10.0, -11.0, -9.0, -9.5, -9.0, -8.0])
    monkeypatch.setattr("minivae.training.state.evaluate_batches", lambda *_: Evaluation(next(script), 0.0, 0.0, 1))
    history = fit(epochs=6, validation=X[:60], patience=2)
    assert history["val_elbo"] == [-10.0, -11.0, -9.0, -9.5, -9.0]
    assert history.best_epoch == 3


def test_fit_and_the_options_of_a_training_are_one_signature():
    """Names, order and defaults, but for what comes with X; nothing is hidden behind **more."""
    given = list(inspect.signature(mv.VAE.fit).parameters.values())
    fit = [(p.name, p.default) for p in given if p.name not in ("self", "X", "condition", "exposure")]
    assert fit == [(field.name, field.default) for field in dataclasses.fields(Options)]


# ---- guards ---------------------------------------------------------------------------------------------------------


def test_divergence_names_the_step_and_the_tensor_and_keeps_the_last_good_state(tmp_path):
    vae = model()
    with (
        np.errstate(all="ignore"),
        pytest.raises(mv.Diverged, match=r"step \d+ \(epoch \d+\).*(output|gradient|latent)"),
    ):
        fit(vae, optimizer=mv.SGD(1e30), run=tmp_path / "r")
    kept = mv.VAE.load(tmp_path / "r/model.safetensors")
    assert np.isfinite(kept.buffer.data).all()


@pytest.mark.parametrize("poison, name", [("encoder.0.W", "encoder.0 output"), ("decoder.1.b", "decoder.1 output")])
def test_divergence_names_the_first_tensor_in_the_chain(poison, name):
    vae = model()
    vae.parameters[poison][...] = np.nan
    with pytest.raises(mv.Diverged, match=f"is: {name}"):
        fit(vae)


def test_a_last_step_that_ruins_the_parameters_is_not_saved(tmp_path):
    vae = model()
    steps = 0
    real = mv.SGD.update

    class Ruin(mv.SGD):
        def update(self, P, G, backend):
            nonlocal steps
            real(self, P, G, backend)
            steps += 1
            if steps == 15:
                P[0] = np.inf

    with pytest.raises(mv.Diverged, match="parameter encoder"):
        fit(vae, optimizer=Ruin(0.1), run=tmp_path / "r")
    assert np.isfinite(mv.VAE.load(tmp_path / "r/model.safetensors").buffer.data).all()


def test_a_first_step_that_overflows_is_told_to_scale_and_not_to_slow_down():
    vae = mv.VAE(3, 1, (4,), likelihood="gaussian", backend="numpy")
    with pytest.raises(mv.Diverged, match=r"values, from 0 to 1e\+30, want scaling"):
        fit(vae, data=np.array([[0.0, 1e30, 1.0]] * 60))


def test_the_advice_after_a_first_step_is_one_that_can_be_followed():
    """Counts take no scale, and values in [0, 1] need none."""
    vae = mv.VAE(3, 1, (4,), likelihood="poisson", backend="numpy")
    with pytest.raises(mv.Diverged, match=r"counts, up to 1e\+30, are too large for 'poisson'") as caught:
        fit(vae, data=np.array([[0.0, 1e30, 1.0]] * 60, np.float32))
    assert "scale" not in str(caught.value)
    with pytest.raises(mv.Diverged, match=r"with init='normal:1e30': try 'glorot'") as caught:
        fit(model(init="normal:1e30"))
    assert "scal" not in str(caught.value)


def test_a_divergence_says_whether_the_saved_state_is_trained(tmp_path):
    with pytest.raises(mv.Diverged, match=r"r/model\.safetensors holds the untrained model\."):
        fit(optimizer=mv.SGD(1e30), run=tmp_path / "r")
    with pytest.raises(mv.Diverged, match=r"s/model\.safetensors holds the state after step \d+\."):
        fit(optimizer=mv.SGD(1e5), run=tmp_path / "s", epochs=200, save_seconds=0.0)


def test_a_model_that_is_not_finite_is_refused_before_a_run_begins(tmp_path):
    vae = model()
    vae.parameters["decoder.0.W"][0] = np.nan
    with pytest.raises(mv.Diverged, match=r"step 0 .*parameter decoder\.0\.W\. The model was not finite before"):
        fit(vae, run=tmp_path / "r")
    assert list((tmp_path / "r").iterdir()) == []


def test_resuming_with_another_number_of_threads_is_said(ended, tmp_path):
    folder = shutil.copytree(ended, tmp_path / "r")
    held = checkpoint.read(folder / "model.safetensors")
    assert held.training["threads"] == model().backend.threads
    held.training["threads"] = 77
    checkpoint.write(folder / "model.safetensors", held)
    with pytest.warns(UsageWarning, match=r"was trained on 77 threads and goes on with \d+: its last digits"):
        fit(model(), run=folder, resume=True, **OPTIONS)


@pytest.mark.parametrize("absurd", [{"latent_dim": 2**40}, {"latent_dim": 2**63}, {"hidden": (2**33, 2**33)}])
def test_a_model_larger_than_the_memory_is_one_line(absurd):
    with pytest.raises(MemoryError, match=r"an array of [\d,]+ GiB was asked for, and there are") as caught:
        model(**absurd)
    assert "\n" not in str(caught.value)


def test_samples_larger_than_the_memory_are_one_line():
    with pytest.raises(MemoryError, match="fewer latent dimensions or samples"):
        fit(model(samples=10**12))


MISTAKES = {
    "optimizer's name": ({"optimizer": "adam"}, r"mv.Adam\(1e-3\); got 'adam'"),
    "optimizer's class": ({"optimizer": mv.Adam}, "the class Adam itself"),
    "schedule": ({"schedule": 0.5}, "a schedule's name"),
    "beta": ({"beta": "x"}, "beta='x'"),
    "callback": ({"callback": 3}, "callback=3"),
    "scale": ({"scale": 3}, "mv.Scale.fit"),
    "kind of scale": ({"scale": "max"}, "'max'"),
    "a list": ({"data": [[0] * 16]}, "got list"),
    "masked": ({"data": np.ma.masked_array(np.zeros((9, 16)))}, "masked"),
    "float rows": ({"rows": np.arange(230.0)}, "integer array"),
    "negative rows": ({"rows": np.arange(230) - 5}, "from -5"),
    "epochs": ({"epochs": 0}, "epochs=0"),
    "epochs without end": ({"epochs": 2**63}, "at most 4294967295"),
    "batch": ({"batch_size": 2.5}, "batch_size=2.5"),
    "clip": ({"clip": -1.0}, "clip=-1.0"),
    "patience alone": ({"patience": 3}, "validation"),
    "binarize": ({"binarize": "maybe"}, "none, threshold, static, dynamic"),
    "nan": ({"data": np.full((9, 16), np.nan)}, "NaN or infinite"),
    "width": ({"data": np.zeros((9, 15))}, r"\(rows, 16\)"),
    "validation width": ({"validation": np.zeros((9, 15))}, r"validation: expected an array \(rows, 16\)"),
    "domain": ({"data": X * 255}, "gaussian"),
    "binarise out of range": ({"data": X * 255, "binarize": "dynamic"}, "scale them"),
    "rows": ({"rows": np.arange(4)}, "one number for each"),
    "resume nothing": ({"resume": True}, "needs run="),
    "schedule name": ({"schedule": "linear"}, "expected constant"),
    "free bits": ({"free_bits": -1.0}, "free_bits=-1.0"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_one_clear_line(mistake):
    options, match = MISTAKES[mistake]
    with pytest.raises(UsageError, match=match) as caught:
        fit(**options)
    assert "\n" not in str(caught.value)


def test_grey_values_without_binarisation_are_warned_of():
    with pytest.warns(UsageWarning, match="--binarize"):
        fit(data=np.full((60, 16), 0.5), epochs=1)


# ---- runs and resuming ----------------------------------------------------------------------------------------------

OPTIONS = {
    "validation": X[:40],
    "beta": mv.Beta(1.0, warmup=2),
    "binarize": "dynamic",
    "schedule": "cosine",
    "clip": 5.0,
    "patience": 4,
    "epochs": 5,
}


def history_without_times(folder):
    with open(folder / "history.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


class Stop(Exception):
    pass


def interrupted_fit(folder, at_step, **options):
    """Fit until a given step, checkpointing after each; then die as a killed process does: nothing more is written."""
    vae, steps = model(samples=2), 0
    real = mv.VAE.step

    def step(self, *args, **kwargs):
        nonlocal steps
        if steps == at_step:
            raise Stop
        steps += 1
        return real(self, *args, **kwargs)

    mv.VAE.step = step
    try:
        fit(vae, run=folder, **{"save_seconds": 0.0} | OPTIONS | options)
    except Stop:
        pass
    finally:
        mv.VAE.step = real


OPTIMIZERS = {
    "adam": mv.Adam,
    "momentum": lambda: mv.SGD(0.05, momentum=0.9),
    "rmsprop": lambda: mv.RMSprop(1e-2, momentum=0.5),
    "sgd": mv.SGD,
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("at_step", [0, 1, 4, 5, 12, 24])
def test_a_resumed_run_ends_with_the_same_bytes(at_step, optimizer, tmp_path):
    make = OPTIMIZERS[optimizer]
    fit(model(samples=2), run=tmp_path / "whole", optimizer=make(), **OPTIONS)
    interrupted_fit(tmp_path / "cut", at_step, optimizer=make())
    fit(model(samples=2), run=tmp_path / "cut", optimizer=make(), resume=True, **OPTIONS)
    whole, cut = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut
    assert history_without_times(tmp_path / "whole") == history_without_times(tmp_path / "cut")


def test_resuming_a_finished_run_changes_nothing_and_more_epochs_continue_it(tmp_path):
    options = OPTIONS | {"schedule": "constant", "patience": None}
    fit(model(), run=tmp_path / "r", **options)
    before = (tmp_path / "r/model.safetensors").read_bytes()
    fit(model(), run=tmp_path / "r", resume=True, **options)
    assert (tmp_path / "r/model.safetensors").read_bytes() == before
    fit(model(), run=tmp_path / "r", resume=True, **options | {"epochs": 7})
    fit(model(), run=tmp_path / "once", **options | {"epochs": 7})
    assert (tmp_path / "r/model.safetensors").read_bytes() == (tmp_path / "once/model.safetensors").read_bytes()


def test_history_is_cut_back_to_the_checkpoint(tmp_path):
    """Killed with two epochs in the history that no checkpoint knows of, and a third half written."""
    interrupted_fit(tmp_path / "r", 12, save_seconds=1e9)
    with open(tmp_path / "r/history.csv", "a") as file:
        file.write("3,15,1.0,")
    fit(model(samples=2), run=tmp_path / "r", resume=True, **OPTIONS)
    assert [row["epoch"] for row in history_without_times(tmp_path / "r")] == ["1", "2", "3", "4", "5"]


def test_fewer_epochs_than_there_are_is_an_error(tmp_path):
    fit(model(), run=tmp_path / "r", **OPTIONS)
    with pytest.raises(UsageError, match="has 5 epochs behind it"):
        fit(model(), run=tmp_path / "r", resume=True, **OPTIONS | {"epochs": 3})


def test_a_run_is_never_written_over(tmp_path):
    fit(run=tmp_path / "r")
    before = (tmp_path / "r/model.safetensors").read_bytes()
    with pytest.raises(UsageError, match="--resume"):
        fit(run=tmp_path / "r")
    assert (tmp_path / "r/model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    "change, match",
    [
        ({"data": X[::-1].copy()}, "the data have changed"),
        ({"batch_size": 49}, "batch_size 50.*49"),
        ({"beta": 2.0}, "beta beta 1.0.*2.0"),
        ({"optimizer": mv.Adam(2e-3)}, "optimizer lr 0.001.*0.002"),
        ({"clip": None}, "clip 5.0.*None"),
        ({"vae": model(seed=4)}, "seed 3.*4"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_resuming_with_another_option_or_other_data_is_an_error(change, match, tmp_path):
    options = OPTIONS | {"beta": 1.0}
    fit(model(), run=tmp_path / "r", **options)
    with pytest.raises(UsageError, match=match):
        fit(**{"vae": model(), "run": tmp_path / "r", "resume": True, **options, **change})


@pytest.mark.parametrize(
    "harm, match",
    [
        (lambda training: training["position"].pop("best_bound"), "missing required field `best_bound`"),
        (lambda training: training["position"].update(best_bound="x"), "could not convert string to float"),
        (lambda training: training["position"].update(best_bound="nan"), "neither a number nor -inf"),
        (lambda training: training["position"].update(step=5), "step 5 of epoch 6 is said to be step 25 in all"),
        (lambda training: training["position"].update(sums=[1.0, 2.0]), "length 3"),
        (lambda training: training["position"].update(waited=-1), ">= 0"),
        (lambda training: training.update(first_pass=2**32), "<= 4294967295"),
        (lambda training: training.update(optimizer_steps="7"), "Expected `int`, got `str`"),
        (lambda training: training.update(options=None), "not one that a run left"),
        (lambda training: training.update(options={}), "was begun with model None"),
        (lambda training: training["options"].update(beta="\x1b[31m" * 99), "was begun with beta"),
    ],
)
def test_a_run_that_cannot_be_resumed_says_why_and_is_unchanged(harm, match, tmp_path):
    fit(model(), run=tmp_path / "r", **OPTIONS)
    held = checkpoint.read(tmp_path / "r/model.safetensors")
    harm(held.training)
    checkpoint.write(tmp_path / "r/model.safetensors", held)
    before = {path.name: path.read_bytes() for path in (tmp_path / "r").iterdir()}
    with pytest.raises(UsageError, match=match) as caught:
        fit(model(), run=tmp_path / "r", resume=True, **OPTIONS)
    assert str(caught.value).isprintable()
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "r").iterdir()}


def test_the_domain_is_checked_after_binarisation():
    with pytest.warns(mv.UsageWarning, match="take 'bernoulli'"):
        fit(model(likelihood="continuous-bernoulli"), binarize="dynamic")


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The folder of a run that ended; tests damage copies."""
    folder = tmp_path_factory.mktemp("ended") / "r"
    fit(model(), run=folder, **OPTIONS)
    return folder


@pytest.mark.parametrize("name", ["encoder.0.W", "best.encoder.0.W", "optimizer.m"])
@pytest.mark.parametrize(
    "harm, match",
    [
        (lambda a: a * np.nan, "holds NaN"),
        (lambda a: a[:0], "needs floats"),
        (lambda a: a.astype(np.int64), "needs floats"),
        (None, "is missing"),
    ],
    ids=["NaN", "empty", "integers", "missing"],
)
def test_a_tensor_that_is_damaged_or_missing_stops_a_resume(name, harm, match, ended, tmp_path):
    folder = shutil.copytree(ended, tmp_path / "r")
    held = checkpoint.read(folder / "model.safetensors")
    if harm is None:
        del held.tensors[name]
    else:
        held.tensors[name] = harm(held.tensors[name])
    checkpoint.write(folder / "model.safetensors", held)
    with pytest.raises(UsageError, match=match):
        fit(model(), run=folder, resume=True, **OPTIONS)


@pytest.mark.parametrize("column", COLUMNS)
def test_a_damaged_history_is_named_and_not_believed(column, ended, tmp_path):
    folder = shutil.copytree(ended, tmp_path / "r")
    lines = (folder / "history.csv").read_text().splitlines()
    for text in ("", "nan", "1e999", "x", "-inf", "\xff", "9" * 200_000):
        if text == "" and column.startswith("val_"):
            continue  # as without validation
        cells = dict(zip(COLUMNS, lines[1].split(","), strict=True)) | {column: text}
        (folder / "history.csv").write_bytes(
            "\n".join([lines[0], ",".join(cells.values()), *lines[2:]]).encode("latin-1")
        )
        with pytest.raises(UsageError, match=r"history\.csv: expected the epochs 1 … 5.*; found 0 \(") as caught:
            fit(model(), run=folder, resume=True, **OPTIONS)
        assert str(caught.value).isprintable()


# ---- real processes, killed and interrupted -------------------------------------------------------------------------

SCRIPT = """
import sys, numpy as np, minivae as mv
X = (np.random.default_rng(0).random((2000, 64)) < 0.3).astype(np.float32)
vae = mv.VAE(64, 4, (100,), backend="numpy", samples=2)
folder, epochs, resume = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "resume"
vae.fit(X, epochs=epochs, batch_size=37, binarize="dynamic", validation=X[:300], run=folder, resume=resume,
        save_seconds=0.0, progress=False)
"""


def start(folder, epochs=12, mode="new"):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), str(epochs), mode], cwd=ROOT, env=dict(os.environ)
    )


def wait_for_epoch(folder, process, epoch):
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        path = folder / "history.csv"
        if path.exists() and path.read_bytes().count(b"\n") > epoch:
            return
        assert process.poll() is None, "it ended before it could be stopped"
        time.sleep(0.005)
    raise AssertionError("too slow")


@pytest.mark.slow
def test_a_process_killed_again_and_again_ends_as_the_one_that_was_left_alone(tmp_path):
    assert start(tmp_path / "whole").wait(180) == 0
    process = start(tmp_path / "cut")
    for epoch in (1, 3, 4, 7):
        wait_for_epoch(tmp_path / "cut", process, epoch)
        time.sleep(0.013 * epoch)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)
        process = start(tmp_path / "cut", mode="resume")
    assert process.wait(180) == 0
    whole, cut = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut
    assert history_without_times(tmp_path / "whole") == history_without_times(tmp_path / "cut")
