"""Missing cells filled by a VAE, beside scikit-learn's imputers, at 10, 30 and 50 % of the cells missing.

Sets: breast_cancer, wine, diabetes and iris, which scikit-learn bundles, and flchain of scikit-survival's wheel: 7,874
rows of counts, numbers, text and gaps of its own. Cells are taken away at random, one mask for every method. The figure
of a column is the squared error over its missing cells, in units of its variance, or the share of wrong categories; the
figure of a table is the mean over its columns, so 1 is what the mean of a column scores.

The imputers of scikit-learn take numbers: they get standardised columns and one-hot categories, of which the largest is
taken. minivae gets the table, by `mv.Columns.infer`. One setting serves all sets.

  python reproductions/imputation.py
  python reproductions/imputation.py flchain --flchain flchain.arff
  python reproductions/imputation.py --page    # the table of docs/tables.md, from imputation.json

A figure is kept as soon as it is there; another --seed or --steps prints its own, and keeps none.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import minivae as mv

SETS = ("breast_cancer", "wine", "diabetes", "iris", "flchain")
RATES = (10, 30, 50)  # per cent of the cells missing
METHODS = ("mean or mode", "KNN", "BayesianRidge", "ExtraTrees", "minivae")
RESULTS = Path(__file__).with_suffix(".json")  # set → rate → method → its error
SEED, STEPS = 0, 4000


def data(name: str, flchain: Path | None) -> pd.DataFrame:
    """Return the rows of a set without its target; those of flchain with the gaps that it has."""
    if name != "flchain":
        from sklearn import datasets

        return getattr(datasets, f"load_{name}")(as_frame=True).data
    from scipy.io import arff

    if flchain is None:
        raise SystemExit("flchain: give --flchain flchain.arff, which lies in scikit-survival's wheel")
    frame = pd.DataFrame(arff.loadarff(flchain)[0])
    for column in frame.select_dtypes("object"):
        text = frame[column].str.decode("utf-8")
        frame[column] = text.where(text != "?")
    return frame.drop(columns=["futime", "death"])


def with_gaps(frame: pd.DataFrame, rate: float, seed: int) -> pd.DataFrame:
    """The frame with this share of its cells missing, at random."""
    gone = np.random.default_rng(seed).random(frame.shape) < rate
    return frame.astype({c: "float64" for c in frame if frame[c].dtype.kind in "iu"}).mask(gone)


def error(full: pd.DataFrame, holes: pd.DataFrame, filled: pd.DataFrame) -> float:
    """The mean over the columns of the squared error over the variance, or of the share of wrong categories."""
    found = []
    for column in full:
        gap = (holes[column].isna() & full[column].notna()).to_numpy()
        truth, got = full[column].to_numpy()[gap], filled[column].to_numpy()[gap]
        if full[column].dtype.kind in "iuf":
            found.append(float(((truth - got.astype(float)) ** 2).mean() / full[column].var(ddof=0)))
        else:
            found.append(float((truth != got).mean()))
    return float(np.mean(found))


def by_minivae(holes: pd.DataFrame, steps: int, seed: int) -> pd.DataFrame:
    """The table by a VAE of its kinds of columns, trained until a seventh of the rows, held out, gets no better."""
    columns = mv.Columns.infer(holes)
    X = columns.encode(holes)
    vae = mv.VAE(
        len(columns), min(10, len(columns) - 1), (128, 128), "relu", columns, "iwae", 20,
        missing=True, backend="numpy", seed=seed,
    )  # fmt: skip
    order, batch = np.random.default_rng(seed).permutation(len(X)), 64
    held, train = np.split(order, [len(X) // 7])
    vae.fit(
        X[train], epochs=max(1, steps * batch // len(X)), batch_size=batch, optimizer=mv.Adam(1e-3), scale="standard",
        validation=X[held], patience=50,
    )  # fmt: skip
    return columns.to_frame(vae.impute(X, samples=1000), index=holes.index)


def by_sklearn(holes: pd.DataFrame, imputer: Any) -> pd.DataFrame:
    """The table by an imputer of numbers."""
    parts, places = [], []
    for column in holes:
        if holes[column].dtype.kind == "f":
            x = holes[[column]].to_numpy()
            places.append((column, None, np.nanmean(x), np.nanstd(x) or 1.0))
            parts.append((x - places[-1][2]) / places[-1][3])
        else:
            hot = pd.get_dummies(holes[column]).astype(float)
            hot[holes[column].isna()] = np.nan
            places.append((column, hot.columns.to_numpy(), 0.0, 1.0))
            parts.append(hot.to_numpy())
    filled, out, start = imputer.fit_transform(np.hstack(parts)), {}, 0
    for (column, names, shift, factor), part in zip(places, parts, strict=True):
        got = filled[:, start : start + part.shape[1]]
        out[column] = got[:, 0] * factor + shift if names is None else names[got.argmax(axis=1)]
        start += part.shape[1]
    return pd.DataFrame(out, index=holes.index)


def imputers(seed: int) -> Iterator[tuple[str, Any]]:
    """scikit-learn's, by name."""
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
    from sklearn.linear_model import BayesianRidge

    yield METHODS[0], SimpleImputer()
    yield METHODS[1], KNNImputer()
    yield METHODS[2], IterativeImputer(BayesianRidge(), random_state=seed)
    trees = ExtraTreesRegressor(n_estimators=20, random_state=seed)
    yield METHODS[3], IterativeImputer(trees, max_iter=5, random_state=seed)


def results() -> dict[str, dict[str, dict[str, float]]]:
    """The figures that are kept."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def keep(name: str, rate: int, method: str, found: float) -> None:
    """Add one figure to those that are kept."""
    kept = results()
    kept.setdefault(name, {}).setdefault(str(rate), {})[method] = round(found, 3)
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


def page() -> str:
    """The table of the figures that are kept, the least error of each row in bold."""
    lines = ["| set | missing | " + " | ".join(METHODS) + " |", "|---|---:|" + "---:|" * len(METHODS)]
    kept = results()
    for name, rate in ((name, rate) for name in SETS for rate in RATES):
        row = [f"{kept[name][str(rate)][method]:.3f}" for method in METHODS]
        best = min(row, key=float)
        lines.append(f"| {name} | {rate} % | " + " | ".join(f"**{x}**" if x == best else x for x in row) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=SETS[:-1], help=", ".join(SETS))
    parser.add_argument("--flchain", type=Path, metavar="FILE.arff")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", choices=METHODS)
    parser.add_argument("--rates", nargs="+", type=int, default=RATES, metavar="PERCENT")
    parser.add_argument("--page", action="store_true", help="print the table of the figures that are kept")
    options = parser.parse_args()
    if options.page:
        print(page())
        return
    warnings.simplefilter("ignore")
    print("| set | missing |", " | ".join(METHODS), "|\n|---|---:|" + "---:|" * len(METHODS))
    for name in options.sets:
        full = data(name, options.flchain)
        for rate in options.rates:
            holes, cells, start = with_gaps(full, rate / 100, options.seed), [], time.process_time()
            for method, imputer in (*imputers(options.seed), (METHODS[-1], None)):
                if options.only not in (None, method):
                    cells.append("")
                    continue
                filled = by_sklearn(holes, imputer) if imputer else by_minivae(holes, options.steps, options.seed)
                cells.append(f"{(found := error(full, holes, filled)):.3f}")
                if (options.seed, options.steps) == (SEED, STEPS):
                    keep(name, rate, method, found)
            print(f"| {name} | {rate} % |", " | ".join(cells), f"| {time.process_time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
