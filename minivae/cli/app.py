"""app: the command line `minivae`. It parses options, calls the library and prints; it computes nothing.

Importing it loads typer and no large package: each command imports what it needs, so that `--help` is quick. A user's
mistake is a UsageError: `__main__.py` prints it as one line and exits with status 2.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..console import print_json, stdout
from ..environment import launched
from ..errors import UsageError, printable
from .bench import bench
from .columns import Ignore, Label, columns, columns_of
from .compare import compare
from .conditions import Given, Names, names_of, values_of
from .explain import explain
from .explore import explore
from .export import export
from .gradcheck import gradcheck
from .impute import impute
from .options import (
    BackendName,
    Force,
    Json,
    KernelKind,
    OtherData,
    Out,
    RunFolder,
    Split,
    check_alike,
    check_out,
    ranks_of_command,
    say,
    write_file,
    writing_file,
)  # fmt: skip
from .picture import picture
from .plugin import Plugin
from .race import race
from .score import score
from .verify import verify

ON_RANKS = ("train", "evaluate", "encode", "score")  # the commands that several processes share out

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A VAE engine whose every forward and backward pass is written by hand.\n\n"
    "Start with: [bold]minivae train digits --out run[/]",
)


def _version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"minivae {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    if context.invoked_subcommand not in ON_RANKS and launched() > 1:
        raise UsageError(
            f"{launched()} processes were started, and `minivae {context.invoked_subcommand}` works in one: start it "
            f"without mpiexec; {', '.join(ON_RANKS)} can share out their work"
        )


@app.command()
def train(
    context: typer.Context,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="digits, mnist, fashion-mnist, or a .npy .npz .csv .tsv .parquet .txt .amat .mtx .svmlight .h5ad "
            "or IDX file.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="RUN", help="The folder for the run; default: runs/DATA-1, -2 …", rich_help_panel="Run"
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the run that is in the folder.", rich_help_panel="Run")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in the folder.", rich_help_panel="Run")
    ] = False,
    likelihood: Annotated[
        str,
        typer.Option(
            metavar="S",
            help="auto, or a name such as bernoulli, gaussian, gaussian:0.5 or poisson; a name that does not exist "
            "lists all of them.",
            rich_help_panel="Data",
        ),
    ] = "auto",
    scale: Annotated[
        str,
        typer.Option(
            metavar="M",
            help="none, minmax, standard or maxabs, fitted on the training rows; auto: standard for a table "
            "of real numbers, else none.",
            rich_help_panel="Data",
        ),
    ] = "auto",
    latent: Annotated[int, typer.Option(metavar="N", help="Latent dimensions.", rich_help_panel="Model")] = 20,
    hidden: Annotated[
        str, typer.Option(metavar="N,N…", help="Hidden widths of the encoder, or none.", rich_help_panel="Model")
    ] = "500",
    activation: Annotated[
        str, typer.Option(metavar="A", help="relu, tanh, sigmoid, softplus, silu, identity.", rich_help_panel="Model")
    ] = "relu",
    epochs: Annotated[
        int, typer.Option(metavar="N", help="Passes over the training rows.", rich_help_panel="Training")
    ] = 10,
    batch_size: Annotated[int, typer.Option(metavar="N", help="Rows in a step.", rich_help_panel="Training")] = 128,
    lr: Annotated[float, typer.Option(metavar="X", help="Learning rate.", rich_help_panel="Training")] = 1e-3,
    optimizer: Annotated[
        str,
        typer.Option(metavar="O", help="adam, adamw, sgd, nesterov, rmsprop or adagrad.", rich_help_panel="Training"),
    ] = "adam",
    momentum: Annotated[
        float | None, typer.Option(metavar="X", help="For sgd, nesterov, rmsprop.", rich_help_panel="Training")
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(metavar="X", help="Weight decay.", rich_help_panel="Training")
    ] = None,
    schedule: Annotated[
        str,
        typer.Option(
            metavar="S",
            help="constant, cosine, milestones:30,60, warmup:2, warmup:2+cosine (epochs).",
            rich_help_panel="Training",
        ),
    ] = "constant",
    clip: Annotated[
        float | None, typer.Option(metavar="X", help="Largest global norm of the gradient.", rich_help_panel="Training")
    ] = None,
    init: Annotated[
        str, typer.Option(metavar="I", help="glorot, he or normal:s, such as normal:0.01.", rich_help_panel="Model")
    ] = "glorot",
    objective: Annotated[
        str,
        typer.Option(
            metavar="O",
            help="elbo, or iwae: the importance-weighted bound with K = --samples.",
            rich_help_panel="Objective",
        ),
    ] = "elbo",
    samples: Annotated[
        int, typer.Option(metavar="S", help="Samples of z for each row.", rich_help_panel="Objective")
    ] = 1,
    antithetic: Annotated[
        bool, typer.Option("--antithetic", help="Samples in pairs of noise ε and −ε.", rich_help_panel="Objective")
    ] = False,
    free_bits: Annotated[
        float,
        typer.Option(
            metavar="X", help="Nats of KL in each latent dimension that are not penalised.", rich_help_panel="Objective"
        ),
    ] = 0.0,
    beta: Annotated[float, typer.Option(metavar="X", help="Weight of the KL.", rich_help_panel="Objective")] = 1.0,
    kl_warmup: Annotated[
        float,
        typer.Option(metavar="N", help="Epochs over which that weight rises from 0.", rich_help_panel="Objective"),
    ] = 0.0,
    beta_cycle: Annotated[
        float,
        typer.Option(
            metavar="N", help="Period of that weight in epochs: it rises, then restarts.", rich_help_panel="Objective"
        ),
    ] = 0.0,
    binarize: Annotated[
        str, typer.Option(metavar="M", help="auto, none, threshold, static or dynamic.", rich_help_panel="Data")
    ] = "auto",
    columns: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json", help="The kinds of a table's columns (minivae columns).", rich_help_panel="Data"
        ),
    ] = None,
    label: Label = None,
    ignore: Ignore = None,
    condition: Names = None,
    unseen: Annotated[
        str, typer.Option(metavar="U", help="An unknown category is an error, or missing.", rich_help_panel="Data")
    ] = "error",
    validation: Annotated[
        float, typer.Option(metavar="F", help="Share of the training rows to validate on.", rich_help_panel="Data")
    ] = 0.0,
    patience: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Stop after N epochs without a better validation bound.", rich_help_panel="Training"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of all random numbers.", rich_help_panel="Data")] = 0,
    backend: BackendName = "auto",
    kernels: KernelKind = "fused",
    dtype: Annotated[str, typer.Option(metavar="T", help="float32 or float64.", rich_help_panel="Machine")] = "float32",
    tf32: Annotated[
        bool, typer.Option("--tf32", help="Faster, less precise float32 matmul on a GPU.", rich_help_panel="Machine")
    ] = False,
    shards: Annotated[
        int | None,
        typer.Option(
            metavar="S",
            help="Parts of each batch; default: the ranks of mpiexec. S gives the run its bits.",
            rich_help_panel="Ranks",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            metavar="T", help="Threads of a rank; default: its part of the processors.", rich_help_panel="Ranks"
        ),
    ] = None,
    order: Annotated[
        str,
        typer.Option(
            metavar="O",
            help="rows, or blocks: each shard shuffles its own block of a huge file.",
            rich_help_panel="Ranks",
        ),
    ] = "rows",
    plugin: Plugin = None,
) -> None:
    """Train a VAE and write a run's folder: config, history, model, pictures.

    Example: minivae train mnist --out run --hidden 500 --latent 20 --epochs 10
    """
    from ..distributed import mpi
    from ..training.signals import Terminated
    from . import runs
    from .train import Session

    ranks = mpi.begin(shards=shards)
    check_alike(ranks, context)
    options = {name: value for name, value in context.params.items() if name not in ("data", "out", "force", "resume")}
    given = {
        name
        for name in options
        if context.get_parameter_source(name).name != "DEFAULT"  # type: ignore[union-attr]
    }
    options["ignore"], options["condition"] = tuple(ignore or ()), names_of(condition)
    options["columns"] = None if columns is None else str(columns)
    source = runs.source_name(data)
    with ranks.agreeing():
        if resume:
            if force:
                raise UsageError("--resume continues a run and --force replaces it: leave one of the two out")
            if out is None:
                raise UsageError("--resume continues a run: name its folder by --out RUN")
            folder = out
            options = ranks.first(lambda: _resumed_options(folder, source, options, given))
        out = out or ranks.first(lambda: runs.free_folder(data))
        chosen = mpi.share_processors(ranks, None if os.environ.get("MINIVAE_THREADS") else options["threads"])
    options["shards"] = ranks.shards = options["shards"] or (1 if resume else ranks.size)
    if options["shards"] > 1 or options["threads"]:  # else the threads are the machine's, as ever
        options["threads"] = options["threads"] or chosen
    session = Session(out, source, options, ranks, named=context.params["out"] is not None)
    try:
        session.train(resume=resume, force=force, say=_say_if_open)
    except (KeyboardInterrupt, Terminated) as error:
        if not getattr(error, "agreed", False):
            mpi.end_all("interrupted", 130)
        launcher = ["mpiexec", "-n", str(ranks.size)] if ranks.size > 1 else []
        again = shlex.join([*launcher, "minivae", "train", data, "--out", str(session.folder), "--resume"])
        hint = f"{session.folder} is saved; go on with: {again}" if session.begun else "training had not begun"
        _say_error(printable(f"minivae: interrupted; {hint}"))
        raise typer.Exit(error.status if isinstance(error, Terminated) else 130) from None


def _resumed_options(out: Path, source: str, options: dict[str, Any], given: set[str]) -> dict[str, Any]:
    """Return the run's options, with the number of epochs given now."""
    from . import runs

    config = runs.read_config(out)
    if config["data"] != source:
        raise UsageError(f"{out} was begun with the data {config['data']}, and now they are {source}: give the same")
    begun = config["options"]
    for name in sorted(given - {"epochs"}):
        if options[name] != begun.get(name):
            flag = "--" + name.replace("_", "-")
            raise UsageError(
                f"{out} was begun with {flag} {begun.get(name)}, now it is {options[name]}: only --epochs may change"
            )
    return {**options, **begun, "epochs": options["epochs"] if "epochs" in given else begun["epochs"]}


@app.command()
def evaluate(
    context: typer.Context,
    run: RunFolder,
    data: OtherData = None,
    split: Split = None,
    n: Annotated[int | None, typer.Option("-n", metavar="N", help="Use only the first N rows.")] = None,
    importance: Annotated[
        int | None, typer.Option(metavar="K", help="Also ln p(x) by importance sampling with K samples a row.")
    ] = None,
    ais: Annotated[
        int | None,
        typer.Option(metavar="T", help="Also ln p(x) by annealed importance sampling, T temperatures: slow."),
    ] = None,
    chains: Annotated[int, typer.Option(metavar="C", help="Chains of --ais for each row.")] = 16,
    bidirectional: Annotated[
        bool,
        typer.Option("--bidirectional", help="Bound the error of --ais from both sides, on rows drawn from the model."),
    ] = False,
    report: Annotated[bool, typer.Option("--report", help="Print how much each latent dimension is used.")] = False,
    per_row: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write ln p(x) of each row: .csv or .npz, for anomaly scores.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
    backend: BackendName = "auto",
    kernels: KernelKind = "fused",
    plugin: Plugin = None,
) -> None:
    """Compute ELBO, NLL and KL of a run's model, in nats a row.

    Example: minivae evaluate run --importance 1000 --report
    """
    from .evaluate import assess, describe, write_rows
    from .runs import open_run

    ranks = ranks_of_command(context)
    with ranks.agreeing():
        if per_row is not None:
            ranks.first(lambda: check_out(per_row, (".csv", ".npz"), force, "--per-row"))
            if (importance is None) == (ais is None):
                raise UsageError("--per-row writes one estimate of ln p(x): give either --importance K or --ais T")
        opened = open_run(run, backend, kernels)
        part = opened.part(data, split, ranks).first(n)
        figures, rows = assess(opened, part, importance, ais, chains, bidirectional, report, ranks)
    if per_row is not None:
        write_file(per_row, force, lambda file: write_rows(file, per_row.suffix, part, rows), ranks)
    if as_json:
        print_json(figures)
        return
    for line in describe(figures):
        say(line)
    if per_row is not None:
        say(f"{per_row}: {len(part.X):,} rows")


@app.command()
def trace(
    run: RunFolder,
    data: OtherData = None,
    split: Split = None,
    n: Annotated[int, typer.Option("-n", metavar="N", help="The first N rows.")] = 128,
    as_json: Json = False,
    backend: BackendName = "auto",
    kernels: KernelKind = "fused",
    plugin: Plugin = None,
) -> None:
    """Print one forward and backward pass, step by step: shapes, bytes, FLOPs, times, norms, NaN and infinities.

    Example: minivae trace run -n 128
    """
    from ..trace.recorder import trace as trace_pass
    from ..training.batches import Batches
    from .runs import open_run

    opened = open_run(run, backend, kernels)
    part, options = opened.part(data, split).first(n), opened.config["options"]
    _, X, _ = next(Batches(opened.vae, part.X, part.rows).in_order(len(part.X)))  # in the model's units
    traced = trace_pass(opened.vae, X, beta=options.get("beta", 1.0), free_bits=options.get("free_bits", 0.0))
    if as_json:
        print_json({"part": part.name, **traced.to_dict()})
        return
    console = stdout()
    console.print(traced.render(console.width))


@app.command()
def sample(
    run: RunFolder,
    out: Out,
    n: Annotated[int, typer.Option("-n", metavar="N", help="Number of rows.")] = 64,
    draw: Annotated[bool, typer.Option("--draw", help="Draw x ~ p(x|z), as for a table, not its mean.")] = False,
    mean: Annotated[bool, typer.Option("--mean", help="Take the mean E[x|z], as for pictures.")] = False,
    condition: Given = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Seed; default: the run's.")] = None,
    force: Force = False,
    backend: BackendName = "auto",
    kernels: KernelKind = "fused",
    plugin: Plugin = None,
) -> None:
    """Sample new rows from a run's model: a picture (.png), a table (.csv) or an array (.npy) in the data's units.

    Rows of a table are draws, pictures are means unless --draw is given. A model that was trained with --condition
    needs a value of each: --condition label=7.

    Example: minivae sample run -n 64 -o samples.png
    """
    from .runs import open_run

    check_out(out, (".png", ".npy", ".csv"), force)
    if draw and mean:
        raise UsageError("--draw and --mean are two things to sample: leave one of the two out")
    opened = open_run(run, backend, kernels)
    draw = draw or (opened.shape is None and not mean)
    what = "x ~ p(x|z) for z ~ N(0, I): draws" if draw else "E[x|z] for z ~ N(0, I): means, not draws"
    given = values_of(opened.vae.condition, condition)
    rows = opened.vae.sample(n, seed=seed, draw=draw, condition=given)
    _write_rows(out, force, rows, None, opened, what=what, whole=draw, given=given)


@app.command()
def reconstruct(
    run: RunFolder,
    out: Out,
    data: OtherData = None,
    n: Annotated[
        int | None, typer.Option("-n", metavar="N", help="The first N rows; 24 for a picture, else all.")
    ] = None,
    split: Split = None,
    force: Force = False,
    backend: BackendName = "auto",
    kernels: KernelKind = "fused",
    plugin: Plugin = None,
) -> None:
    """Encode and decode rows: a picture of data above reconstructions (.png), or a table (.csv) or an array (.npy).

    Tables and arrays are in the data's units.

    Example: minivae reconstruct run -o reconstructions.png
    """
    from ..evaluation.passes import in_data_units, in_model_units
    from .runs import open_run

    check_out(out, (".png", ".npy", ".csv"), force)
    opened = open_run(run, backend, kernels)
    part = opened.part(data, split)
    if n is not None and n < 1:
        raise UsageError(f"-n {n}: expected an integer of at least 1")
    n = n or (24 if out.suffix == ".png" else len(part.X))
    X = part.X[:n]
    limits = None if opened.shape else part.limits()
    seen = in_data_units(opened.vae, in_model_units(opened.vae, X))
    _write_rows(out, force, opened.vae.reconstruct(X), seen, opened, limits)


@app.command()
def encode(
    context: typer.Context,
    run: RunFolder,
    out: Out,
    data: OtherData = None,
    split: Split = None,
    metadata: Annotated[
        Path | None, typer.Option(metavar="FILE.tsv", help="Write the rows' numbers and labels, for a .tsv.")
    ] = None,
    force: Force = False,
    backend: BackendName = "auto",
    kernels: KernelKind = "fused",
    plugin: Plugin = None,
) -> None:
    """Write the posterior of each row: mean and logvar (n, L), rows (n,), and labels y (n,) if there are any (.npz).

    A .tsv holds the means alone, as the TensorFlow projector takes them, with their rows and labels in --metadata.
    Example: minivae encode run -o codes.npz
    """
    import numpy as np

    from ..evaluation.latents import encode as codes
    from .evaluate import write_codes, write_metadata
    from .runs import open_run

    ranks = ranks_of_command(context)
    with ranks.agreeing():
        ranks.first(lambda: _check_codes(out, metadata, force))
        opened = open_run(run, backend, kernels)
        part = opened.part(data, split, ranks)
        mean, logvar = codes(opened.vae, part.X, ranks, everywhere=False)
    if out.suffix == ".tsv":
        write_file(out, force, lambda file: write_codes(file, mean), ranks)
        say(f"{out}: posterior means {mean.shape}, {part.name}")
    else:
        arrays: dict[str, Any] = {"mean": mean, "logvar": logvar, "rows": part.rows}
        if part.y is not None:
            arrays["y"] = part.y
        write_file(out, force, lambda file: np.savez(file, **arrays), ranks)
        say(f"{out}: mean and logvar {mean.shape}, {part.name}")
    if metadata is not None:
        write_file(metadata, force, lambda file: write_metadata(file, part), ranks)
        say(f"{metadata}: {'rows' if part.y is None else 'rows and labels'} of {len(part.X):,} rows")


def _check_codes(out: Path, metadata: Path | None, force: bool) -> None:
    check_out(out, (".npz", ".tsv"), force)
    if metadata is not None:
        if out.suffix != ".tsv":
            raise UsageError(f"--metadata goes with a .tsv, and -o is {out}: a .npz holds rows and labels itself")
        check_out(metadata, (".tsv",), force, "--metadata")
        if metadata.resolve() == out.resolve():
            raise UsageError(f"--metadata {metadata} is the file of -o: choose another name")


@app.command()
def info(as_json: Json = False) -> None:
    """Describe this installation: versions, backend, BLAS, extras, and the environment variables that minivae reads.

    Example: minivae info --json
    """
    from ..environment import variables
    from .train import describe_machine

    facts = describe_machine()
    if as_json:
        print_json(facts)
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=None)
    read = variables()
    for name, value in facts.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        meaning = f"  [dim]{escape(str(read[name]['meaning']))}[/]" if name in read else ""
        table.add_row(f"[bold]{name}[/]", escape(printable(shown)) + meaning)
    stdout().print(table)


app.command()(score)
app.command()(columns)
app.command()(impute)
app.command()(export)
app.command()(explore)
app.command()(picture)
app.command()(compare)
app.command()(gradcheck)
app.command()(explain)
app.command()(verify)
app.command()(bench)
app.command()(race)


def _say_error(text: str) -> None:
    """Print a line on standard error; ignore that the terminal is closed (after SIGHUP)."""
    with contextlib.suppress(OSError):
        typer.echo(text, err=True)


def _say_if_open(text: str) -> None:
    """`say`, for a training: if standard output is closed or full (`… | head`), training goes on without output."""
    try:
        say(text)
        sys.stdout.flush()
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def _write_rows(
    out: Path,
    force: bool,
    Y: Any,
    X: Any,
    run: Any,
    limits: Any = None,
    what: str = "",
    whole: bool = False,
    given: dict[str, Any] | None = None,
) -> None:
    """Write Y (n, D) as an array, a table or a picture, below the data X if given; `what` says what Y is.

    whole   counts, and numbers of an integer dtype, are whole in a table
    given   the conditions of all rows, which are the last columns of a table
    """
    import numpy as np

    from .. import plots

    shape, names = run.shape, run.vae.columns
    with writing_file(out, force) as file:
        if out.suffix == ".npy":
            np.save(file, Y, allow_pickle=False)
        elif out.suffix == ".csv":
            schema = columns_of(run)
            given = given or {}
            conditions = [schema.text(value) for value in given.values()]
            rows = (row + conditions for row in schema.rows(Y, whole))
            schema.write_csv(file, rows, [*schema.names, *given])
        elif X is None:
            plots.grid(Y, shape, file, title=what, names=names)
        else:
            plots.reconstructions(X, Y, shape, file, limits=limits, names=names)
    say(f"{out}: {len(Y)} rows" + (f", {what}" if what else ""))
