"""paper: the functions that the scripts of this folder share: options, a training that resumes, figures with standard
errors, the file of results, and the table with our number beside the published one.

The scripts use minivae's public interface alone: `VAE.fit(run=…, resume=True)`, `VAE.log_likelihood`, `VAE.objective`.

Numbers are in nats, means over rows. A standard error is that of the mean over the test rows; `estimator` is the part
of it that the sampling of z adds.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import minivae as mv
from minivae.bench.machine import describe
from minivae.disk import write_whole

HERE = Path(__file__).parent
RESULTS = HERE / "results"
MODEL = "model.safetensors"
SAVE_SECONDS = 30.0
BLOCK = 500  # test rows between two saves of an estimate


@dataclass(frozen=True)
class Figure:
    """One line of a table: our number and the published one. The defaults describe a line that was not run.

    error      standard error of the mean over rows
    estimator  the part of it that the sampling of z adds
    complete   whether the whole protocol was run; `reached` says how far it came
    seconds    training time
    key        identifies the line in its table
    digits     printed behind the point
    """

    key: str
    what: str
    published: str
    ours: float | None = None
    error: float | None = None
    estimator: float | None = None
    reached: str = "not run"
    complete: bool = False
    seconds: float = 0.0
    digits: int = 2
    date: str = ""
    command: str = ""
    machine: str = ""


@dataclass
class Result:
    """A table: what was run, how, where and when. One file holds the lines of one protocol on the same data."""

    name: str
    title: str
    source: str
    protocol: list[str]
    differences: list[str]
    data: str
    quick: bool = False
    figures: list[Figure] = field(default_factory=list)
    curves: dict[str, list[list[float]]] = field(default_factory=dict)

    def put(self, figures: list[Figure]) -> None:
        """Replace the lines with the same keys; append the others."""
        lines = {figure.key: figure for figure in self.figures} | {figure.key: figure for figure in figures}
        self.figures = list(lines.values())

    def write(self, path: Path) -> None:
        """Write JSON, atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, (json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n").encode())

    @classmethod
    def read(cls, path: Path) -> Result:
        """Read a file that `write` wrote."""
        try:
            held = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(**{**held, "figures": [Figure(**figure) for figure in held["figures"]]})
        except (ValueError, KeyError, TypeError) as error:
            raise mv.UsageError(f"{path}: expected a file of results that these scripts wrote; got {error!r}") from None


# ---- from the command line to the file ----------------------------------------------------------------------------


def parser(doc: str | None, name: str) -> argparse.ArgumentParser:
    """Return a parser of the options that all scripts have. doc: the script's docstring; name: that of its runs."""
    head, _, rest = (doc or "").strip().partition("\n\n")
    p = argparse.ArgumentParser(description=head, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--runs", type=Path, default=Path("runs") / "papers" / name, metavar="FOLDER",
                   help="checkpoints; given again, it goes on where it stopped (default: %(default)s)")  # fmt: skip
    p.add_argument("--results", type=Path, default=None, metavar="FILE",
                   help=f"where figures are kept (default: reproductions/results/{name}.json)")  # fmt: skip
    p.add_argument("--quick", action="store_true", help="a few steps on a few rows, in seconds: does it still run?")
    p.add_argument("--seed", type=int, default=0, help="of weights and noise (default: %(default)s)")
    return p


def run(main: Callable[[], None]) -> None:
    """Call `main`; a user's mistake is one line and status 2."""
    try:
        main()
    except mv.UsageError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def numbers(option: str, text: str) -> list[int]:
    """ "3,20" → [3, 20]."""
    try:
        values = [int(word) for word in text.split(",")]
    except ValueError:
        values = []
    if not values or min(values) < 1:
        raise mv.UsageError(f"{option} {text!r}: expected integers ≥ 1 with commas between, as in 3,20")
    return values


def names(option: str, text: str, known: Iterable[str]) -> list[str]:
    """ "vae-1,iwae-5" → ["vae-1", "iwae-5"], all of them known."""
    words, known = text.split(","), list(known)
    for word in words:
        if word not in known:
            raise mv.UsageError(f"{option} {text!r}: expected some of {','.join(known)}, with commas between")
    return words


def begin(script: Any, data: str, options: Any) -> Result:
    """Return the table to add to: that of its file if protocol and data are the same, otherwise an empty one."""
    new = Result(script.NAME, script.TITLE, script.SOURCE, script.PROTOCOL, script.DIFFERENCES, data, options.quick)
    new.figures = list(script.LINES)
    path = results_file(script.NAME, options)
    if path.exists():
        old = Result.read(path)
        if (old.protocol, old.data, old.quick) == (new.protocol, new.data, new.quick):
            new.put(old.figures)
            new.curves = old.curves
    return new


def finish(result: Result, figures: list[Figure], options: argparse.Namespace, argv: list[str] | None) -> None:
    """Stamp new lines with date, command and machine, and write the file."""
    words = [word for word in (sys.argv[1:] if argv is None else argv) if word]
    facts, threads = describe(), int(os.environ.get("MINIVAE_THREADS") or os.cpu_count() or 1)
    stamp = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", f"reproductions/{result.name}.py", *_without_places(words)]),
        "machine": f"{facts['cpu']}, {threads} thread{'s' * (threads > 1)}",
    }
    result.put([replace(figure, **stamp) for figure in figures])
    result.write(results_file(result.name, options))


def results_file(name: str, options: argparse.Namespace) -> Path:
    if options.results is not None:
        return options.results
    return (options.runs if options.quick else RESULTS) / f"{name}.json"


def _without_places(words: list[str]) -> list[str]:
    """Return the command without --runs and --results, which do not affect the figures, and without --data's path."""
    kept, places = [], ("--runs", "--results")
    rest = iter(words)
    for word in rest:
        option = word.partition("=")[0]
        if option in places:
            if "=" not in word:
                next(rest, None)
        elif option == "--data":
            kept += ["--data", "PLACE"]
            if "=" not in word:
                next(rest, None)
        else:
            kept.append(word)
    return kept


# ---- training and figures -------------------------------------------------------------------------------------------


def train(vae: mv.VAE, X: np.ndarray, folder: Path, **options: Any) -> Any:
    """Run `vae.fit` in `folder`, or continue it; return the history."""
    print(f"{folder}: {len(X):,} rows, {options['epochs']} passes", flush=True)
    started, every = time.perf_counter(), max(1, options["epochs"] // 20)

    def tell(row: dict[str, Any]) -> None:
        if row["epoch"] % every == 0 or row["epoch"] == 1:
            seconds = time.perf_counter() - started
            print(f"  pass {row['epoch']:5}  loss {row['loss']:8.3f}  lr {row['lr']:.2e}  {seconds:6.0f} s", flush=True)

    return vae.fit(
        X, run=folder, resume=(folder / MODEL).exists(), progress=False, save_seconds=SAVE_SECONDS,
        callback=tell, **options,
    )  # fmt: skip


def log_likelihood(vae: mv.VAE, X: np.ndarray, samples: int, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Compute `vae.log_likelihood` block by block and save each block in `folder`, so that a later run continues.

    The file holds a fingerprint of model and rows; blocks of others are not used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, mark = folder / f"log_px-{samples}.npz", fingerprint(vae.backend.to_host(vae.buffer.data), X)
    log_px, error, done = np.empty(len(X)), np.empty(len(X)), 0
    if path.exists():
        with np.load(path, allow_pickle=False) as kept:
            if str(kept["mark"]) == mark and len(kept["log_px"]) <= len(X):
                done = len(kept["log_px"])
                log_px[:done], error[:done] = kept["log_px"], kept["error"]
    for start in range(done, len(X), BLOCK):
        part = slice(start, min(start + BLOCK, len(X)))
        rows = np.arange(part.start, part.stop)
        log_px[part], error[part] = vae.log_likelihood(X[part], samples, rows=rows)
        _write_npz(path, log_px=log_px[: part.stop], error=error[: part.stop], mark=np.array(mark))
    return log_px, error


def elbo(vae: mv.VAE, X: np.ndarray, samples: int = 16) -> np.ndarray:
    """Return the ELBO of each row (N,): the expectation over z from `samples` draws, the KL by its formula."""
    rng, out = np.random.default_rng(1), []
    for start in range(0, len(X), BLOCK):
        block = np.ascontiguousarray(X[start : start + BLOCK], dtype=vae.backend.dtype)
        eps = rng.standard_normal((samples, len(block), vae.latent_dim), dtype=np.float32)
        terms = vae.objective(block, eps=eps)
        out.append(-(terms.nll_rows.astype(np.float64) + terms.kl_rows))
    return np.concatenate(out)


def measured(line: Figure, rows: np.ndarray, errors: np.ndarray | None = None, **more: Any) -> Figure:
    """Return the line with the mean of `rows`, its standard error, and the part of it from each row's `errors`."""
    error = float(rows.std(ddof=1) / math.sqrt(len(rows)))
    estimator = None if errors is None else float(math.sqrt((errors**2).sum()) / len(errors))
    return replace(line, ours=float(rows.mean()), error=error, estimator=estimator, **more)


def seconds(history: Any) -> float:
    """Return the training time of a history, interruptions left out."""
    return float(history["seconds"][-1]) if len(history) else 0.0


def fingerprint(*arrays: np.ndarray) -> str:
    """Return a digest of the arrays' bytes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def _write_npz(path: Path, **arrays: np.ndarray) -> None:
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    write_whole(path, packed.getvalue())


# ---- the table ------------------------------------------------------------------------------------------------------

COLUMNS = ("", "published", "ours", "difference", "standard error", "of sampling z", "run", "training")
GAP = "–"


def lines(figures: Iterable[Figure]) -> list[list[str]]:
    """Return the cells of a table, without its heading."""
    return [
        [f.what, f.published, number(f.ours, f.digits), difference(f), number(f.error, 2), number(f.estimator, 3),
         f.reached if f.complete or f.ours is None else f"{f.reached}: a part", duration(f.seconds)]
        for f in figures
    ]  # fmt: skip


def show(result: Result) -> str:
    """Return the table as text, its protocol below."""
    cells = [list(COLUMNS), *lines(result.figures)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(COLUMNS))]
    rows = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    said = [f"protocol    {line}" for line in result.protocol] + [f"different   {line}" for line in result.differences]
    return "\n".join([result.title, result.source, "", *rows, "", f"data        {result.data}", *said])


def difference(f: Figure) -> str:
    """Format our number minus the published one, with its sign; – if one is missing."""
    try:
        published = float(f.published.replace("−", "-"))
    except ValueError:
        return GAP
    return GAP if f.ours is None else f"{f.ours - published:+.{f.digits}f}".replace("-", "−")


def number(x: float | None, digits: int) -> str:
    """Format as −98.76; None as –."""
    return GAP if x is None else f"{x:.{digits}f}".replace("-", "−")


def duration(seconds: float) -> str:
    """Format as 12.3 min; 0 as –."""
    return f"{seconds / 60:.1f} min" if seconds else GAP
