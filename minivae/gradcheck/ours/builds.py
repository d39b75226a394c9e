"""builds: turn each kind of minivae's targets into a problem. `targets.py` lists the targets.

Every function here returns a `Build`: build(backend, rng, rows) → Problem. Buffers hold NaN before each backward.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from ... import kernels, likelihoods
from ...backend import Array, Backend
from ...buffers import ParameterBuffer, Workspace
from ...latent import GaussianPosterior
from ...layers import MLP, Dense
from ...likelihoods.base import Likelihood
from ...matmul.sparse import Sparse
from ...objectives import Terms, WeightedTerms
from ...vae import VAE
from ..problem import Arrays, Problem, random_upstream

B, D, H, L, S = 5, 7, 6, 4, 3

Build = Callable[[Backend, np.random.Generator, int], Problem]


# ---- between the host and the backend -------------------------------------------------------------------------------


def _own(backend: Backend, x: np.ndarray) -> Array:
    """Copy x to the backend, in its dtype; complex stays complex."""
    return backend.xp.asarray(x, None if np.iscomplexobj(x) else backend.dtype).copy()


def _make_stale(workspace: Workspace) -> None:
    """Fill every array of floats with NaN, so that whatever is read before it is written shows."""
    for flat in workspace.flat.values():
        if flat.dtype.kind == "f":
            flat[...] = float("nan")


def _poison(backend: Backend, shape: tuple[int, ...], like: Array = None) -> Array:
    """Make a buffer full of NaN, so that an entry that is not written is detected."""
    return backend.xp.full(shape, np.nan, backend.dtype if like is None else like.dtype)


def _finish(backend: Backend, rng: np.random.Generator, problem: Problem) -> Problem:
    """Set the upstream vector and the ops; complex-step is possible with reference kernels only."""
    if not problem.upstream:
        problem.upstream = random_upstream(rng, problem.forward(problem.inputs))
    problem.ops = backend.ops
    return problem


# ---- ops ------------------------------------------------------------------------------------------------------------


def _call(backend: Backend, op: str, shape: tuple[int, int, int], case: str = "", **given: Any) -> dict[str, Any]:
    """Run an op and return its arguments, by name. Those not given are its example's for shape (S, B, D).

    Where one given is complex, for complex-step, all are.
    """
    record = kernels.ops()[op]
    dtype = complex if any(np.iscomplexobj(x) for x in given.values()) else backend.dtype
    example = record.example(np.random.default_rng(0), backend.dtype, *shape, case)
    arguments = dict(zip(record.names, example, strict=True)) | given
    for name, x in arguments.items():
        if hasattr(x, "dtype"):
            arguments[name] = backend.xp.asarray(x, dtype).copy()
    getattr(backend.ops, op)(*arguments.values())
    return arguments


def _hosts(backend: Backend, arguments: dict[str, Any], *names: str) -> Arrays:
    return [backend.to_host(arguments[name]) for name in names]


def dense_op(activation: str, rows: int = 0) -> Build:
    def build(backend: Backend, rng: np.random.Generator, n: int) -> Problem:
        n = rows if rows and n > 1 else n
        call = partial(_call, backend, shape=(1, n, H), case=activation)

        def run(inputs: Arrays) -> dict[str, Any]:
            return call("dense_forward", Y=inputs[0], b=inputs[1])

        def forward(inputs: Arrays) -> Arrays:
            return _hosts(backend, run(inputs), "Y")

        def backward(inputs: Arrays, upstream: Arrays) -> list[np.ndarray | None]:
            results = run(inputs)
            done = call("dense_backward", dA=upstream[0], Y=results["Y"], A=results["A"])
            return [*_hosts(backend, done, "dA", "db")]

        inputs = [1.5 * rng.normal(size=(n, H)), rng.normal(size=H)]
        problem = Problem("", ("XW", "b"), inputs, forward, backward, [], sizes=_sizes(n, H=H))
        problem.complex_step = backend.kernels == "reference"
        return _finish(backend, rng, problem)

    return build


def latent_op(backend: Backend, rng: np.random.Generator, n: int) -> Problem:
    eps = rng.normal(size=(S, n, L))
    call = partial(_call, backend, shape=(S, n, L))

    def run(inputs: Arrays) -> dict[str, Any]:
        return call("latent_forward", H=inputs[0], eps=eps)

    def forward(inputs: Arrays) -> Arrays:
        return _hosts(backend, run(inputs), "Z", "kl_dims")

    def backward(inputs: Arrays, upstream: Arrays) -> list[np.ndarray | None]:
        results = run(inputs)
        kl_weight = upstream[1] / n  # kl_dims is the mean over rows
        results = {name: results[name] for name in ("eps", "sigma", "H")}
        return [*_hosts(backend, call("latent_backward", dZ=upstream[0], kl_weight=kl_weight, **results), "dH")]

    problem = Problem("", ("H",), [rng.normal(size=(n, 2 * L))], forward, backward, [], sizes=_sizes(n, L=L, S=S))
    problem.complex_step = backend.kernels == "reference"
    problem = _finish(backend, rng, problem)
    problem.parts["the KL"] = lambda xs: float(np.sum(problem.upstream[1] * forward(xs)[1]))
    return problem


def importance_op(backend: Backend, rng: np.random.Generator, n: int) -> Problem:
    """z and the bound of every row, as functions of H and the samples' nll."""
    eps, beta = rng.normal(size=(S, n, L)), 0.7
    call = partial(_call, backend, shape=(S, n, L))

    def run(inputs: Arrays) -> dict[str, Any]:
        latent = call("latent_forward", H=inputs[0], eps=eps)
        bound = call("importance_forward", nll=inputs[1], Z=latent["Z"], eps=eps, H=inputs[0], beta=beta)
        return {**bound, "sigma": latent["sigma"]}

    def forward(inputs: Arrays) -> Arrays:
        return _hosts(backend, run(inputs), "Z", "bound")

    def backward(inputs: Arrays, upstream: Arrays) -> list[np.ndarray | None]:
        results = run(inputs)
        d_nll = results["weight"] * _own(backend, -n * upstream[1])  # the weights are the gradient of −mean bound
        results = {name: results[name] for name in ("eps", "sigma", "Z")}
        done = call("importance_backward", dZ=upstream[0], weight=d_nll, beta=beta, **results)
        return [*_hosts(backend, done, "dH", "weight")]

    inputs = [rng.normal(size=(n, 2 * L)), 2 * rng.normal(size=(S, n))]
    problem = Problem("", ("H", "nll"), inputs, forward, backward, [], sizes=_sizes(n, L=L, S=S))
    problem.complex_step = backend.kernels == "reference"
    return _finish(backend, rng, problem)


# ---- layers, posterior ----------------------------------------------------------------------------------------------


def _bound(backend: Backend, module: Dense | MLP) -> ParameterBuffer:
    buffer = ParameterBuffer(backend, module.parameters())
    module.bind(buffer)
    return buffer


def _layer_problem(
    backend: Backend,
    rng: np.random.Generator,
    n: int,
    make: Callable[[Workspace], Dense | MLP],
    rows: Callable[[Workspace], Any] | None = None,
    **sizes: int,
) -> Problem:
    """Build the problem of a Dense or MLP: X and every parameter are inputs; X is none where `rows` makes it."""
    workspace = Workspace(backend)
    module = make(workspace)
    buffer = _bound(backend, module)
    names = tuple(buffer.views)

    def run(inputs: Arrays) -> Array:
        _make_stale(workspace)
        for name, value in zip(names, inputs[-len(names) :], strict=True):
            backend.assign(buffer.views[name], value)
        return module.forward(_own(backend, inputs[0]) if rows is None else rows(workspace))

    def forward(inputs: Arrays) -> Arrays:
        return [backend.to_host(run(inputs)).copy()]

    def backward(inputs: Arrays, upstream: Arrays) -> list[np.ndarray | None]:
        run(inputs)
        buffer.grad[...] = np.nan
        dX = module.backward(_own(backend, upstream[0]), need_dX=rows is None)
        own = [backend.to_host(dX).copy()] if rows is None else []
        return [*own, *(backend.to_host(buffer.grads[name]).copy() for name in names)]

    inputs = [rng.normal(size=(n, D))] if rows is None else []
    inputs += [0.6 * rng.normal(size=buffer.shapes[name]) for name in names]
    shown = tuple(name.split(".", 1)[1] for name in names)
    names_shown = shown if rows else ("X", *shown)
    problem = Problem("", names_shown, inputs, forward, backward, [], sizes=_sizes(n, **{"D": D} | sizes))
    return _finish(backend, rng, problem)


def dense(activation: str) -> Build:
    def build(backend: Backend, rng: np.random.Generator, n: int) -> Problem:
        return _layer_problem(backend, rng, n, lambda w: Dense(backend, w, "dense", D, H, activation), H=H)

    return build


def _by_nonzeros(backend: Backend) -> bool:
    """Whether this backend multiplies by non-zeros; where it does not, the same rows are dense."""
    return backend.name == "numpy" and backend.kernels == "fused"


def _mostly_zeros(X: np.ndarray) -> np.ndarray:
    """X with a column of zeros and, if it has more than one row, a row of zeros."""
    X[len(X) // 2 if len(X) > 1 else len(X) :][:1] = 0
    X[:, 2] = 0
    return X


def sparse_dense(columns: int, units: int, ones: bool = False, rows: int = 0) -> Build:
    """A first layer, columns → units, of rows by their non-zeros, some of which have none; ones: these are all 1."""

    def build(backend: Backend, rng: np.random.Generator, n: int) -> Problem:
        n = rows if rows and n > 1 else n
        values = np.ones((n, columns)) if ones else rng.normal(size=(n, columns)).astype(np.float32)
        X = _own(backend, _mostly_zeros(np.where(rng.random((n, columns)) < 0.4, values, 0)))

        def given(workspace: Workspace) -> Any:
            return Sparse.of(X, workspace.take) if _by_nonzeros(backend) else X

        make = partial(Dense, backend, name="dense", n_in=columns, n_out=units, activation="tanh")
        return _layer_problem(backend, rng, n, lambda w: make(workspace=w), given, D=columns, H=units)

    return build


def mlp(activation: str) -> Build:
    def build(backend: Backend, rng: np.random.Generator, n: int) -> Problem:
        return _layer_problem(backend, rng, n, lambda w: MLP(backend, w, "mlp", [D, H, L, 3], activation), H=H, L=L)

    return build


def posterior(beta: float, free_bits: float) -> Build:
    def build(backend: Backend, rng: np.random.Generator, n: int) -> Problem:
        workspace = Workspace(backend)
        posterior = GaussianPosterior(backend, workspace, L)
        eps = rng.normal(size=(S, n, L))

        def run(inputs: Arrays) -> tuple[Array, float]:
            _make_stale(workspace)
            Z, _, kl_dims = posterior.forward(_own(backend, inputs[0]), _own(backend, eps))
            kl = np.maximum(backend.to_host(kl_dims), free_bits).sum()
            return Z, beta * float(kl)

        def forward(inputs: Arrays) -> Arrays:
            Z, kl = run(inputs)
            return [backend.to_host(Z).copy(), np.array(kl)]

        def backward(inputs: Arrays, upstream: Arrays) -> list[np.ndarray | None]:
            run(inputs)
            dZ = _own(backend, upstream[0]).reshape(S * n, L)
            return [backend.to_host(posterior.backward(dZ, beta, free_bits)).copy()]

        scale = np.tile(np.linspace(0.2, 1.2, L), 2)  # some dimensions below the free bits, some above
        H_ = rng.normal(size=(n, 2 * L)) * scale
        upstream = [*random_upstream(rng, [eps]), np.array(1.0)]
        problem = Problem("", ("H",), [H_], forward, backward, upstream, sizes=_sizes(n, L=L, S=S))
        problem.parts["the KL"] = lambda xs: run(xs)[1]
        return _finish(backend, rng, problem)

    return build


# ---- likelihoods ----------------------------------------------------------------------------------------------------


def likelihood(name: str, weights: str, spread: float = 1.0, in_training: bool = True, missing: bool = False) -> Build:
    """f = Σ_r weight_r nll_r as a function of the raw outputs and the likelihood's own parameters.

    weights      "mean": one number for all rows; "rows": one for each row
    spread       scale of the raw outputs
    in_training  whether closed-form parameters are fitted to the batch
    missing      whether some of the values are missing; NaN stands there
    """

    def build(backend: Backend, rng: np.random.Generator, n: int) -> Problem:
        q = likelihoods.make(name, backend, D)
        own = q.parameters()
        buffer = ParameterBuffer(backend, own, q.fitted())
        q.bind({**buffer.views, **buffer.fitted})
        d_params = q.destinations(buffer.grads)
        exact = VAE(D, L, (), likelihood=name, backend=_exact()).likelihood
        X = _drawn(backend, rng, exact, 0.7 * rng.normal(size=(n, q.width)))
        mask = None
        if missing:
            gaps = np.arange(n * D).reshape(n, D) % 3 == 1
            mask, X = backend.asarray(1 - gaps, np.uint8), backend.asarray(np.where(gaps, np.nan, backend.to_host(X)))
        out0 = spread * rng.normal(size=(S * n, q.width))

        def run(inputs: Arrays, weight: np.ndarray) -> tuple[Array, Array]:
            out = _own(backend, inputs[0])
            for (parameter, _), value in zip(own, inputs[1:], strict=True):
                backend.assign(buffer.views[parameter], value)
            buffer.grad[...] = np.nan
            nll, d_out = _poison(backend, (S * n,)), _poison(backend, out.shape)
            given = float(weight.flat[0]) if weights == "mean" else _own(backend, weight.reshape(S, n))
            q.over(mask, in_training and q.closed_form)(nll, d_out, d_params, out, X, given)
            return nll, d_out

        def forward(inputs: Arrays) -> Arrays:
            return [backend.to_host(run(inputs, weight)[0])]  # `weight` affects only the σ² of gaussian:optimal

        def backward(inputs: Arrays, upstream: Arrays) -> list[np.ndarray | None]:
            _, d_out = run(inputs, upstream[0])
            return [backend.to_host(d_out), *(backend.to_host(buffer.grads[p]).copy() for p, _ in own)]

        inputs = [out0, *(0.3 * rng.normal(size=shape) for _, shape in own)]
        weight = np.full(S * n, 0.8) if weights == "mean" else rng.uniform(0.2, 1.5, S * n)
        names = ("out", *(p for p, _ in own))
        return _finish(backend, rng, Problem("", names, inputs, forward, backward, [weight], sizes=_sizes(n, D=D, S=S)))

    return build


def _exact() -> Backend:
    return Backend("numpy", "reference", "float64")


def _drawn(backend: Backend, rng: np.random.Generator, exact: Likelihood, raw: np.ndarray) -> Array:
    """Draw x from p(x|z), of raw outputs, in float64; rounded to float32, runs in both dtypes have the same x."""
    noise = (rng.uniform if exact.noise == "uniform" else rng.normal)(size=(len(raw), D))
    return backend.asarray(exact.draw(raw, noise).astype(np.float32), backend.dtype)


# ---- complete models ------------------------------------------------------------------------------------------------


def vae(
    name: str,
    activation: str,
    samples: int,
    beta: float = 1.0,
    free_bits: float = 0.0,
    hidden: tuple[int, ...] = (H,),
    objective: str = "elbo",
    sparse: bool = False,
) -> Build:
    """The loss of a model as a function of its parameters; sparse: on rows of scipy.sparse, by their non-zeros."""

    def build(backend: Backend, rng: np.random.Generator, n: int) -> Problem:
        if by_nonzeros := sparse and _by_nonzeros(backend):
            backend = Backend(backend.name, backend.kernels, backend.dtype, sparse="yes")
        model = VAE(D, L, hidden, activation, name, objective, samples, backend=backend)
        names = tuple(model.parameters)
        inputs = [0.5 * rng.normal(size=model.buffer.shapes[parameter]) for parameter in names]
        eps = _own(backend, rng.normal(size=(samples, n, L)).astype(np.float32))

        def put(inputs: Arrays, model: VAE = model) -> None:
            for parameter, value in zip(names, inputs, strict=True):
                model.backend.assign(model.parameters[parameter], value)

        # X is drawn from the model, so that the loss is as large as in training
        exact = VAE(D, L, hidden, activation, name, objective, samples, backend=_exact())
        put(inputs, exact)
        X = _drawn(backend, rng, exact.likelihood, exact.decoder.forward(rng.normal(size=(n, L))))
        if sparse:
            X = backend.asarray(_mostly_zeros(backend.to_host(X)))
        if by_nonzeros:
            X = csr_array(X)

        def terms(inputs: Arrays) -> Terms:
            put(inputs)
            return model.objective(X, eps=eps, beta=beta, free_bits=free_bits)

        def backward(inputs: Arrays, upstream: Arrays) -> list[np.ndarray | None]:
            put(inputs)
            _make_stale(model.workspace)
            model.buffer.grad[...] = np.nan
            model.objective_and_grad(X, eps=eps, beta=beta, free_bits=free_bits)
            u = float(upstream[0])
            return [backend.to_host(model.gradients[parameter]) * u for parameter in names]

        shown = {"encoder": "enc", "decoder": "dec"}
        labels = tuple(".".join(shown.get(part, part) for part in parameter.split(".")) for parameter in names)
        problem = Problem(
            "",
            labels,
            inputs,
            lambda xs: [np.array(terms(xs).loss)],
            backward,
            [np.array(1.0)],
            sizes=_sizes(n, D=D, L=L, S=samples),
        )
        if objective == "elbo":  # iwae's loss is not the sum of nll and kl
            problem.parts["the KL"] = lambda xs: (t := terms(xs)).loss - t.nll
            problem.parts["the reconstruction"] = lambda xs: terms(xs).nll
        for row in {0, n - 1} if free_bits == 0 else ():
            problem.parts[f"row {row}"] = partial(lambda row, xs: _of_row(terms(xs), row), row)
        return _finish(backend, rng, problem)

    return build


def _of_row(terms: Terms, row: int) -> float:
    """Return the contribution of one row to the loss."""
    if isinstance(terms, WeightedTerms):
        return -float(terms.bound_rows[row]) / len(terms.bound_rows)
    return float(terms.nll_rows[row] + terms.beta * terms.kl_rows[row]) / len(terms.kl_rows)


_MEANING = {
    "B": "B, the number of rows",
    "D": "D, the number of features",
    "H": "H, the hidden width",
    "L": "L, the latent width",
    "S": "S, the samples of each row",
}


def _sizes(rows: int, **others: int) -> dict[str, int]:
    return {_MEANING[letter]: size for letter, size in {"B": rows, **others}.items()}
