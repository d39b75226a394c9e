"""train: the work of `minivae train`, from its options to its pictures, in order.

All messages go through `say`, one line at a time.
"""

from __future__ import annotations

import os
import platform
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .. import __version__, environment, likelihoods, plots
from ..backend import Backend
from ..conditions import Condition
from ..datasets.choose import choose
from ..datasets.columns import Columns
from ..datasets.load import Dataset, load
from ..datasets.scale import Scale
from ..distributed.world import World
from ..errors import UsageError, UsageWarning
from ..evaluation.bounds import evaluate
from ..evaluation.passes import in_data_units, in_model_units
from ..hints import how_to_install
from ..matmul import cpu as products
from ..training.batches import Batches
from ..training.guard import LARGE
from ..training.history import History
from ..training.loop import Training
from ..training.options import SAVE_SECONDS, Options, make_optimizer
from ..training.progress import Progress
from ..training.schedules import Beta, parse
from ..training.state import observed_value
from ..vae import VAE
from . import conditions, runs

SHOWN = 24  # rows in a picture of reconstructions
SAMPLED = 64  # rows in a picture of samples
DOTS = 5000  # points in a picture of the latent plane


class Session:
    """One call of `minivae train`: `folder` of the run, `source` of the data, `options` of the command line."""

    def __init__(self, folder: Path, source: str, options: dict[str, Any], ranks: World, named: bool = True):
        self.folder, self.source, self.options, self.ranks = folder, source, options, ranks
        self.named = named  # whether the user chose the folder
        self.begun = False  # whether the folder holds this training

    def train(self, resume: bool, force: bool, say: Callable[[str], None]) -> None:
        """Check, load, choose, train, evaluate, draw. Nothing is written before all checks have passed."""
        with self.ranks.agreeing():
            training, data, reason = self.prepare(resume)
        vae, files = training.vae, training.files
        assert files is not None  # `run` was given
        assert isinstance(vae, VAE)
        config = self.config(data)
        with files.locked():
            if resume:
                files.open()
                files.write(lambda: runs.write_config(self.folder, config))
            else:
                files.write(lambda: runs.check_folder(self.folder, force))
                files.write(lambda: runs.write_config(self.folder, config))
                files.open(replace=force)
                files.write(lambda: runs.delete_pictures(self.folder))
            self.begun = True
            self.introduce(training, data, reason, say)
            history = training.run()
            self.report(vae, data, history, say)

    def prepare(self, resume: bool) -> tuple[Training, Dataset, str]:
        """Check, load and choose → the training, its data, and why they have their likelihood."""
        o = self.options
        hidden = parse_hidden(o["hidden"])
        optimizer = make_optimizer(o["optimizer"], o["lr"], o["momentum"], o["weight_decay"])
        schedule, beta = parse(o["schedule"]), Beta(o["beta"], o["kl_warmup"], o["beta_cycle"])
        if not 0 <= o["validation"] < 1:
            raise UsageError(f"--validation {o['validation']:g}: expected a share of the rows, from 0 to less than 1")
        backend = Backend(o["backend"], o["kernels"], o["dtype"], tf32=o["tf32"])

        data = self.load(resume)
        part = runs.split_of(data, "train", o, self.ranks)
        held = runs.split_of(data, "validation", o, self.ranks) if o["validation"] else None
        likelihood, kinds = o["likelihood"], ""
        if data.columns is not None:
            likelihood = likelihoods.name_of(data.columns)
            kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(c.kind for c in data.columns.features).items())
        missing = data.names is not None and (o["unseen"] == "missing" or data.find_gaps(self.ranks))
        chosen = choose(
            observed_value(part.X) if missing else part.X,
            likelihood,
            o["scale"],
            o["binarize"],
            data.is_picture,
            self.ranks,
        )
        reason = f"columns of several kinds, {kinds}" if kinds else chosen.reason
        given = Condition.of(data.all_conditions())
        arguments = {
            "features": data.features, "latent_dim": o["latent"], "hidden": list(hidden), "activation": o["activation"],
            "likelihood": chosen.likelihood, "objective": o["objective"], "samples": o["samples"],
            "antithetic": o["antithetic"], "seed": o["seed"], "init": o["init"],
            **({"missing": True} if missing else {}),
            **({} if given is None else {"condition": given.config()}),
        }  # fmt: skip
        if resume:
            self.ranks.first(lambda: runs.check_model(self.folder, arguments, backend))
        vae = VAE(**arguments, backend=backend)
        vae.columns, vae.schema = data.names, data.schema
        scale = Scale.fit(chosen.scale, part.X, None, missing, vae.likelihood.scales, self.ranks)
        training_options = Options(
            o["epochs"], o["batch_size"], optimizer,
            validation=None if held is None else held.given(vae, self.ranks).X,
            validation_rows=None if held is None else held.rows,
            beta=beta, free_bits=o["free_bits"], binarize=chosen.binarize, scale=scale, schedule=schedule,
            patience=o["patience"], clip=o["clip"], rows=part.rows,
            run=self.folder, resume=resume, progress=Progress(), save_seconds=_save_seconds(),
            ranks=self.ranks, order=o["order"],
        )  # fmt: skip
        training = Training(vae, part.given(vae, self.ranks).X, training_options)
        if data.X_test is not None:  # so that an error in the test rows is found before training
            test = runs.split_of(data, "test", o).given(vae, self.ranks)
            Batches(vae, test.X, name="test rows", ranks=self.ranks)
        if vae.likelihood.is_density and scale.kind == "none" and data.columns is None:
            self.advise(*training.batches.range)
        return training, data, reason

    def load(self, resume: bool) -> Dataset:
        """The data: a table's columns are those of the run, of --columns, or what its cells suggest."""
        o = self.options
        how: dict[str, Any] = {"label": o["label"], "ignore": o["ignore"], "unseen": o["unseen"]}
        how |= {"condition": o["condition"], "ranks": self.ranks}
        if resume:
            return load(self.source, o["seed"], **how | runs.columns_of(runs.read_config(self.folder)))
        if o["columns"] is not None:
            if o["likelihood"] not in ("auto", "mixed"):
                raise UsageError(
                    f"--columns gives each column its likelihood: leave --likelihood {o['likelihood']} out"
                )
            return load(self.source, o["seed"], columns=Columns.read(o["columns"]), fit=True, **how)
        data = load(self.source, o["seed"], mixed=True if o["likelihood"] == "mixed" else None, **how)
        if data.columns is None or o["likelihood"] in ("auto", "mixed"):
            return data
        return load(self.source, o["seed"], columns=data.columns.names, **how)  # numbers, with gaps

    def introduce(self, training: Training, data: Dataset, why: str, say: Callable[[str], None]) -> None:
        """Print the data, the model and the options of the training."""
        o, vae, scale, binarize = self.options, training.vae, training.vae.scale, training.vae.binarize
        if not self.named:
            say(f"folder      {self.folder}: no --out was given")
        pictures = f", pictures of {data.shape[0]}×{data.shape[1]}" if data.shape else ""
        counts = [f"{len(training.batches):,} to train on"]
        counts += [f"{len(training.validation):,} to validate"] if training.validation else []
        counts += [f"{len(data.X_test):,} to test"] if data.X_test is not None else []
        say(f"data        {data.name}: {data.features} features{pictures}; rows: {', '.join(counts)}")
        gaps = "; missing cells are left out" if vae.missing else ""
        say(
            f"likelihood  {vae.likelihood.name if data.columns is None else 'mixed'}: {why}{gaps}"
            + (f"; binarisation: {binarize}" if binarize != "none" else "")
        )
        if vae.condition is not None:
            say(f"condition   {conditions.describe(vae.condition)}")
        if scale is not None:
            units = "; nats are in the data's own units" if vae.likelihood.is_density else ""
            say(f"scale       {scale.kind}, fitted on the training rows{units}")
        if o["shards"] > 1:
            what = "the data" if o["order"] == "blocks" else "each batch"
            say(
                f"ranks       {self.ranks.size}, threads of each: {vae.backend.threads}; {what} in {o['shards']} shards"
            )
        widths = "-".join(str(w) for w in (data.features, *vae.hidden, vae.latent_dim))
        say(f"model       {widths}, {o['activation']}, {vae.buffer.count:,} parameters; {vae.backend}")
        if training.batches.by_nonzeros:
            density = training.batches.density  # 1 where a resumed run's record decides, and nothing was counted
            share = f", {density:.1%} of the values" if density < 1 else ""
            say(f"products    of the first layer by the non-zeros of its rows{share}")
        if vae.loss_fn.name != "elbo" or vae.samples > 1:
            pairs = " in antithetic pairs" if vae.antithetic else ""
            plural = "s" if vae.samples > 1 else ""
            say(f"objective   {vae.loss_fn.name}, {vae.samples} sample{plural} a row{pairs}")
        if training.options.resume:
            done = training.at.epoch > training.options.epochs
            where = f"at epoch {training.at.epoch}, step {training.at.step} of {training.steps_per_epoch}"
            say(f"resuming    {'nothing: all its epochs are done' if done else where}")

    @staticmethod
    def advise(low: float, high: float) -> None:
        """Warn of values so large that training would overflow or hardly progress."""
        if max(abs(low), abs(high)) > LARGE:
            warnings.warn(
                f"the values range from {low:g} to {high:g}, but initial weights suit values near 1: use --scale "
                "standard (or minmax)",
                UsageWarning,
                stacklevel=2,
            )

    def config(self, data: Dataset) -> dict[str, Any]:
        """Return the contents of config.json."""
        return {
            "data": self.source,
            "shape": None if data.shape is None else list(data.shape),
            "features": data.features,
            "sha256": data.sha256(self.ranks),
            "names": None if data.names is None else list(data.names),
            "columns": None if data.columns is None else data.columns.to_builtins(),
            "options": self.options,
            "minivae": __version__,
        }

    def report(self, vae: VAE, data: Dataset, history: History, say: Callable[[str], None]) -> None:
        """Evaluate the test rows and draw the pictures."""
        if history.stopped == "patience":
            say(f"stopped     no better validation {vae.loss_fn.name.upper()} for {self.options['patience']} epochs")
        if history.best_epoch is not None:
            say(f"best        epoch {history.best_epoch} on the validation rows: the model has its parameters")
        split = "test" if data.X_test is not None else "train"
        shown = runs.split_of(data, split, self.options, self.ranks).given(vae, self.ranks)
        if data.X_test is not None:
            result = evaluate(vae, shown.X, rows=shown.rows, ranks=self.ranks)
            iwae = "" if result.iwae is None else f"iwae {result.iwae:.3f}  "
            say(f"test        {iwae}elbo {result.elbo:.3f}  nll {result.nll:.3f}  kl {result.kl:.3f}  nats a row")
        if self.ranks.rank > 0:
            return
        if not plots.available():
            say(f"pictures    none: they need Matplotlib: {how_to_install('viz')}")
            return
        drawn = draw_pictures(self.folder, vae, shown, data.shape, history)
        say(f"run         {self.folder}: config.json, history.csv, model.safetensors, {', '.join(drawn)}")


def draw_pictures(folder: Path, vae: VAE, part: runs.Part, shape: Any, history: History) -> list[str]:
    """Write a run's pictures → their names."""
    X = part.X[:SHOWN]
    limits, names = None if shape is not None else part.limits(), vae.columns
    plots.loss(history, folder / "loss.png")
    seen = in_data_units(vae, in_model_units(vae, X))
    plots.reconstructions(seen, vae.reconstruct(X), shape, folder / "reconstructions.png", limits, names)
    draw = shape is None
    title = "x ~ p(x|z) for z ~ N(0, I): draws" if draw else "E[x|z] for z ~ N(0, I): means, not draws"
    condition = None
    if vae.condition is not None and part.condition is not None:
        condition, told = conditions.spread(vae.condition, part.condition, SAMPLED)
        title = f"{title}; {told}"
    plots.grid(
        vae.sample(SAMPLED, draw=draw, condition=condition), shape, folder / "samples.png", None, limits, title, names
    )
    drawn = ["loss.png", "reconstructions.png", "samples.png"]
    if vae.latent_dim == 2:
        mean, _ = vae.encode(part.X[:DOTS])
        rows = f"{len(mean):,} rows" if len(mean) == len(part.X) else f"the first {len(mean):,} of {len(part.X):,} rows"
        y = None if part.y is None else part.y[:DOTS]
        plots.latent(mean, y, folder / "latent.png", rows=f"{rows} of the {part.name}")
        drawn.append("latent.png")
        if shape is not None and vae.condition is None:
            plots.manifold(vae, shape, folder / "manifold.png")
            drawn.append("manifold.png")
    return drawn


def _save_seconds() -> float:
    text = os.environ.get("MINIVAE_SAVE_SECONDS", str(SAVE_SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UsageError(f"MINIVAE_SAVE_SECONDS={text!r}: expected a number of seconds ≥ 0")
    return seconds


def parse_hidden(text: str) -> tuple[int, ...]:
    """ "500,500" → (500, 500); "none" → ()."""
    if text == "none":
        return ()
    try:
        widths = tuple(int(width) for width in text.split(","))
        if min(widths) >= 1:
            return widths
    except ValueError:
        pass
    raise UsageError(f"--hidden {text!r}: expected integers ≥ 1 with commas between, as in 500,500, or none")


def describe_machine() -> dict[str, Any]:
    """Return the facts of `minivae info`: versions, backend and environment."""
    from threadpoolctl import threadpool_info

    facts: dict[str, Any] = {"minivae": __version__, "python": platform.python_version(), "platform": sys.platform}
    try:
        backend = Backend()
        facts["backend"], facts["threads"] = str(backend), str(backend.threads)
        facts["sparse"] = backend.sparse
    except UsageError as error:
        facts["backend"] = f"unavailable: {error}"
    for name in ("numpy", "mkl"):
        try:
            provider = products.choose(name)
            facts[f"gemm {name}"] = f"{provider.version}, on {'its own' if provider.own_threads else 'our'} threads"
        except UsageError as error:
            facts[f"gemm {name}"] = f"none: {error}"
    try:
        gpu = Backend("cupy")
        facts["gpu"], facts["gpu steps"] = str(gpu), gpu.gemm.about
    except UsageError as error:
        facts["gpu"] = f"none: {error}"
    from ..distributed import mpi, nccl

    facts["mpi"], facts["nccl"] = mpi.about(), nccl.about()
    facts["processors"] = os.cpu_count()
    facts["blas"] = {
        pool["internal_api"]: f"{pool.get('version')} ({pool['num_threads']} threads)"
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    }
    facts["packages"] = {
        name: _version(name)
        for name in ("numpy", "scipy", "numba", "safetensors", "matplotlib", "scikit-learn", "pooch", "cupy-cuda12x",
                     "cupy-cuda13x", "nvmath-python")
    }  # fmt: skip
    for name, variable in environment.variables().items():
        facts[name] = "not set" if variable["value"] is None else variable["value"]
    return facts


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
