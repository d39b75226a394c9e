"""mixed: p(x|z) = Π_blocks p(x_block|z): each column of a table under the distribution that fits its kind.

"mixed:real=0-3;count=4;categorical:8=5,7;ordinal:5=6" names the blocks and their columns, each column once. A block is
a likelihood of its own, with its own kernel, on its slice of the decoder's outputs; the slices stand in the order of
the name, and so do its learned tensors, `likelihood.<kind>.<tensor>`.

    real            Gaussian, mean and log-variance from the decoder
    positive        the same of ln x; −ln p has its Jacobian Σ ln x
    count, poisson  negative binomial with one learned dispersion a column; Poisson
    binary          Bernoulli
    categorical:K   softmax of K logits
    ordinal:K       cumulative logits, K − 1 learned thresholds a column (`kernels/ordinal.py`)

Shapes: R = S·B rows, D features in all, n of a block; out (R, width). Nats in the units of the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..backend import Array, Backend
from ..buffers import Shape
from ..errors import UsageError
from ..kernels.gaussian import LOGVAR_MAX, LOGVAR_MIN
from .base import Likelihood, blocks
from .bernoulli import Bernoulli
from .counts import Categorical, NegativeBinomial, Poisson
from .ordinal import Ordinal
from .real import Gaussian


class LogNormal(Gaussian):
    """p(x|z) of x > 0: ln x is Gaussian; −ln p(x) = −ln N(ln x) + Σ ln x. E[x|z] = e^{m + σ²/2}, the median is e^m.

    The median stands for a value: σ² is a decoder's output, and the mean, exponential in it, may overflow.
    """

    name = "positive"
    domain = "positive"
    neutral = 0.0, 1.0

    def check(self, X: Any) -> None:
        """Finite numbers above 0."""
        low, high = self.range(X)
        if low <= 0:
            raise UsageError(
                f"'positive' explains numbers > 0, and these range from {low:g} to {high:g}: take 'real', or 'count'"
            )

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
        logs = self.backend.xp.log(X)
        self.backend.ops.gaussian(nll_rows, d_out, d_params["clamped"], out, logs, weight)
        nll_rows.reshape(-1, X.shape[0])[...] += logs.sum(axis=1)

    def mean(self, out):
        xp, D = self.backend.xp, self.features
        return xp.exp(out[:, :D] + 0.5 * xp.exp(xp.clip(out[:, D:], LOGVAR_MIN, LOGVAR_MAX)))

    def summary(self, out):
        return out[:, : self.features]  # E[ln x|z]

    def filling(self, summary):
        return self.backend.xp.exp(summary)

    def draw(self, out, noise):
        return self.backend.xp.exp(super().draw(out, noise))


class Binary(Bernoulli):
    """Bernoulli, of 0 and 1 alone; the likelier of the two stands for a value."""

    def check(self, X: Any) -> None:
        """0 and 1."""
        for _, block in blocks(X):
            if not bool(self.backend.to_host(((block == 0) | (block == 1)).all())):
                low, high = self.range(X)
                raise UsageError(f"'binary' explains 0 and 1, and these range from {low:g} to {high:g}")

    def filling(self, summary):
        return summary >= 0.5


# kind → its likelihood, how its columns enter the encoder (`inputs.py`), and the scale that suits them: "standard",
# "magnitude" (x/e^{mean ln x}) or none.
KINDS: dict[str, tuple[type[Likelihood], str, str]] = {
    "real": (Gaussian, "same", "standard"),
    "positive": (LogNormal, "log", "magnitude"),
    "count": (NegativeBinomial, "log1p", ""),
    "poisson": (Poisson, "log1p", ""),
    "binary": (Binary, "same", ""),
    "categorical": (Categorical, "one-hot", ""),
    "ordinal": (Ordinal, "centred", ""),
}


_BLOCK = r"[a-z]+(:\d{1,8})?=\d{1,9}(-\d{1,9})?(,\d{1,9}(-\d{1,9})?)*"
_SPEC = re.compile(rf"{_BLOCK}(;{_BLOCK})*", re.ASCII)


class Block(NamedTuple):
    """Columns of one kind; parameter is the number of classes, 0 where there are none."""

    kind: str
    parameter: int
    columns: tuple[int, ...]


def spec_of(given: Iterable[Any]) -> str:
    """The name of a mixed likelihood from blocks (kind, parameter, columns), as `mv.Columns.blocks()` gives them."""
    parts = []
    for kind, parameter, columns in given:
        runs: list[list[int]] = []
        for column in columns:
            if runs and column == runs[-1][1] + 1:
                runs[-1][1] = column
            else:
                runs.append([column, column])
        classes = f":{parameter}" if parameter and kind not in ("binary",) else ""
        parts.append(f"{kind}{classes}=" + ",".join(f"{a}-{b}" if b > a else f"{a}" for a, b in runs))
    return "mixed:" + ";".join(parts)


def parse(spec: str, features: int) -> list[Block]:
    """The blocks of a name behind "mixed:"; UsageError unless each of the features is in one of them."""
    if not _SPEC.fullmatch(spec):
        raise UsageError(
            f"likelihood 'mixed:{spec}': expected blocks of columns, such as 'mixed:real=0-3;count=4;categorical:8=5,7'"
        )
    found = []
    for part in spec.split(";"):
        name, columns = part.split("=")
        kind, _, parameter = name.partition(":")
        numbers: list[int] = []
        for run in columns.split(","):
            first, _, last = run.partition("-")
            if int(last or first) >= features:
                raise UsageError(f"likelihood 'mixed:{spec}': column {last or first} of {features}, numbered from 0")
            numbers += range(int(first), int(last or first) + 1)
        found.append(Block(kind, int(parameter or 0), tuple(numbers)))
    for block in found:
        if block.kind not in KINDS or bool(block.parameter) != (block.kind in ("categorical", "ordinal")):
            raise UsageError(
                f"likelihood 'mixed:{spec}': {block.kind!r} is no block; expected {', '.join(KINDS)}, with the "
                "number of classes after categorical and ordinal, as in categorical:8"
            )
    listed = sorted(column for block in found for column in block.columns)
    if listed != list(range(features)) or len({(b.kind, b.parameter) for b in found}) < len(found):
        raise UsageError(
            f"likelihood 'mixed:{spec}': expected each of {features} columns, numbered from 0, in one block, and each "
            "kind once"
        )
    return found


class Part(NamedTuple):
    """One block: its likelihood, where its columns stand in X (a slice, or numbers on the device), and in out."""

    key: str
    likelihood: Likelihood
    columns: tuple[int, ...]
    place: Any
    out: slice


class Mixed(Likelihood):
    """p(x|z) = Π_blocks p(x_block|z), of "mixed:" and its blocks: see the head of the file."""

    domain = "real"
    is_density = True
    noise = "uniform"
    clamps = True

    def __init__(self, backend: Backend, features: int, spec: str):
        super().__init__(backend, features)
        self.name = f"mixed:{spec}"
        self.parts: list[Part] = []
        neutral, scales, start = np.zeros(features), [""] * features, 0
        for kind, parameter, columns in parse(spec, features):
            cls, _, scale = KINDS[kind]
            likelihood = cls(backend, len(columns), *([parameter] if parameter else []))
            run = columns == tuple(range(columns[0], columns[0] + len(columns)))
            place = slice(columns[0], columns[-1] + 1) if run else backend.asarray(np.array(columns))
            key = f"{kind}:{parameter}" if parameter else kind
            self.parts.append(Part(key, likelihood, columns, place, slice(start, start + likelihood.width)))
            start += likelihood.width
            neutral[list(columns)] = (likelihood.neutral or (0, 0))[1]
            for column in columns:
                scales[column] = scale
        self._width = start
        self.neutral = 0.0, neutral
        self.scales = tuple(scales)
        self.exposable = any(part.likelihood.exposable for part in self.parts)
        self.forward_only = all(part.likelihood.forward_only for part in self.parts)

    @property
    def width(self) -> int:
        return self._width

    def encodings(self) -> list[tuple[str, Any, int]]:
        """How its columns enter the encoder unless it is said otherwise: (encoding, where in X, how many)."""
        found = []
        for part in self.parts:
            kind, colon, classes = part.key.partition(":")
            found.append((KINDS[kind][1] + colon + classes, part.place, len(part.columns)))
        return found

    def pieces(self) -> list[tuple[str, tuple[int, ...], slice]]:
        return [(f"mixed:{part.key}=0", part.columns, part.out) for part in self.parts]

    def parameters(self) -> list[tuple[str, Shape]]:
        return [(f"{p.key}.{name}", shape) for p in self.parts for name, shape in p.likelihood.parameters()]

    def bind(self, tensors):
        for part in self.parts:
            part.likelihood.bind(_of(part, tensors))

    def check(self, X: Any) -> None:
        """Each column in the domain of its kind; a UsageError names the column."""
        for part in self.parts:
            for _, block in blocks(X):
                for column in part.columns:
                    try:
                        part.likelihood.check(block[:, column : column + 1])
                    except UsageError as error:
                        raise UsageError(f"column {column}: {error}") from None

    def over(self, mask, fitted=False):
        """Each part's, over its own part of the mask."""
        return partial(self.nll_and_grad, mask=mask)

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight, mask=None):
        xp = self.backend.xp
        for i, part in enumerate(self.parts):
            own = xp.ascontiguousarray(out[:, part.out])
            x = xp.ascontiguousarray(X[:, part.place])
            seen = None if mask is None else xp.ascontiguousarray(mask[:, part.place])
            nll = nll_rows if i == 0 else xp.empty(nll_rows.shape, nll_rows.dtype)
            slopes = None if d_out is None else xp.empty(own.shape, own.dtype)
            given = {**_of(part, d_params), "clamped": d_params["clamped"]}
            part.likelihood.over(seen)(nll, slopes, given, own, x, weight)
            if i:
                nll_rows += nll
            if d_out is not None:
                d_out[:, part.out] = slopes

    def expose(self, out, log_exposure):
        for part in self.parts:
            if part.likelihood.exposable:
                out[:, :, part.out] += log_exposure[:, None]

    def mean(self, out):
        """E[x|z] of numbers, the median of positive ones, the likeliest class of the others."""
        return self.filling(self.summary(out)).astype(out.dtype)

    def summary(self, out):
        xp = self.backend.xp
        each = [part.likelihood.summary(xp.ascontiguousarray(out[:, part.out])) for part in self.parts]
        return xp.concatenate(each, axis=1)

    def filling(self, summary):
        x, start = self.backend.xp.empty((summary.shape[0], self.features), summary.dtype), 0
        for part in self.parts:
            stop = start + getattr(part.likelihood, "classes", 1) * len(part.columns)
            x[:, part.place] = part.likelihood.filling(summary[:, start:stop])
            start = stop
        return x

    def draw(self, out, noise):
        special, xp = self.backend.special, self.backend.xp
        x = xp.empty((out.shape[0], self.features), out.dtype)
        for part in self.parts:
            own = xp.ascontiguousarray(out[:, part.out])
            u = xp.ascontiguousarray(noise[:, part.place])
            if part.likelihood.noise == "normal":
                u = special.ndtri(xp.clip(u, 2.0**-25, 1 - 2.0**-25)).astype(own.dtype)  # uniforms have 24 bits
            x[:, part.place] = part.likelihood.draw(own, u)
        return x


def _of(part: Part, tensors: Any) -> dict[str, Array]:
    """What belongs to a part, by the part's own names."""
    head = part.key + "."
    return {name[len(head) :]: tensor for name, tensor in tensors.items() if name.startswith(head)}
