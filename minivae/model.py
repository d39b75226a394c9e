"""model: the mathematics of a VAE. One forward chain, and its backward pass.

    X ─ encoder ─ H=[μ|ln σ²] ─ posterior ─ Z ─ decoder ─ out ─ loss_fn(likelihood) ─ 𝓛        forward: to the right
    dX  encoder     dH          posterior   dZ  decoder  d_out  loss_fn(likelihood)            backward: to the left

    𝓛 = E_x[ E_{z~q(z|x)}[−ln p(x|z)] + β KL(q(z|x) ‖ p(z)) ]                          (eq. 13; β = 1)

or the importance-weighted bound: `objectives/` has both. There is no graph and no tape: what `backward` needs,
`forward` leaves in the workspace. Rows come in through `inputs.py`; training, files and evaluation stand above, in
`vae.py`.

The letters are those of Kingma & Welling (2014): encoder q(z|x), decoder p(x|z), prior p(z). The article that
"(eq. 13)" counts writes p and q the other way round.

Legend: B rows, D features, H hidden units, L latent dimensions, S samples of z for each row. Nats; sums over features,
means over rows. `logvar` = ln σ².
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from threading import RLock
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from . import checks, likelihoods, objectives
from .backend import Array, Backend, resolve
from .buffers import Grads, ParameterBuffer, Shape, Workspace
from .conditions import Condition, Given, row_numbers, row_weights
from .errors import NotFitted, UsageError
from .inputs import Batch, filled, native, noise_in, rows_in
from .inputs import make as make_inputs
from .latent import GaussianPosterior
from .layers import MLP, initialise
from .noise import Noise
from .objectives import Terms
from .units import Checked, binarize_for, columns_for, scale_for

if TYPE_CHECKING:
    from .optim import Optimizer, Updates

P = ParamSpec("P")
R = TypeVar("R")
LAID_OUT = ("likelihood", "encoder", "posterior", "decoder", "buffer", "loss_fn", "parameters", "gradients", "inputs")


def locked(call: Callable[P, R]) -> Callable[P, R]:
    """Let one thread at a time into a method of a model, or a function whose first argument is one."""

    @wraps(call)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        model: Any = args[0] if args else kwargs.get("vae")
        with getattr(model, "lock", nullcontext()):  # the call itself refuses what is not a model
            return call(*args, **kwargs)

    return alone


class Model:
    """A variational auto-encoder's mathematics: MLP encoder and decoder, Gaussian posterior, prior N(0, I).

    The arguments are described in `VAE`, the class for users. What computes takes a Model.
    """

    scale = Checked(scale_for)
    """The map from the data's units to those of encoder and decoder; None: they are the same. `fit` sets it."""
    binarize = Checked(binarize_for)
    """How rows become 0 or 1 after scaling: "none", "threshold", "static" or "dynamic". `fit(binarize=)` sets it.

    Evaluation binarises alike, by the evaluation stream; a single pass, as `encode`, applies "threshold" alone.
    """
    columns = Checked(columns_for)
    """The names of the D columns, for messages and the model's file; None where they have none."""

    def __init__(
        self,
        features: int,
        latent_dim: int = 20,
        hidden: tuple[int, ...] = (500,),
        activation: str = "relu",
        likelihood: str | Any = "bernoulli",
        objective: str = "elbo",
        samples: int = 1,
        backend: str | Backend = "auto",
        kernels: str | None = None,
        dtype: Any = None,
        seed: int = 0,
        init: str = "glorot",
        antithetic: bool = False,
        inputs: str = "auto",
        missing: bool = False,
        condition: Any = None,
    ):
        self.backend = resolve(backend, kernels, dtype)
        self.workspace, self.lock = Workspace(self.backend), RLock()  # every public call holds the lock
        self.features = checks.integer("features", features)
        self.missing, self.condition = checks.boolean("missing", missing), Condition.of(condition)
        self.schema: Any = likelihood if hasattr(likelihood, "blocks") else None  # a table's `mv.Columns`
        self.scale, self.binarize, self.columns = None, "none", getattr(self.schema, "names", None)
        self.latent_dim, self.samples = checks.integer("latent_dim", latent_dim), checks.integer("samples", samples)
        if isinstance(hidden, (str, int)) or not hasattr(hidden, "__iter__"):
            raise UsageError(f"hidden={hidden!r}: expected a tuple of widths, as in (500,), or () for a linear model")
        self.hidden = tuple(checks.integer(f"hidden[{i}]", width) for i, width in enumerate(hidden))
        likelihood = likelihoods.name_of(likelihood)
        texts = {"activation": activation, "likelihood": likelihood, "objective": objective, "init": init}
        for name, text in {**texts, "inputs": inputs}.items():
            checks.instance_of(name, text, str, "its name")
        self.activation, self.init, self.input_kind = activation, init, inputs
        self.loss_class, self.antithetic = objectives.find(objective), checks.boolean("antithetic", antithetic)
        if self.antithetic and samples % 2:
            raise UsageError(
                f"samples={samples} with antithetic=True: expected an even number, for they come in pairs ε and −ε"
            )
        self.noise = Noise(self.backend, seed)
        self.passes = 0  # epochs of `fit` and bare training steps so far: the noise counter's `pass`
        self.undecided = likelihood == "auto"  # until `fit` sees the data
        if not self.undecided:
            self.lay_out(likelihood)

    def networks(self, likelihood: str) -> tuple[list[tuple[str, Shape]], list[tuple[str, Shape]]]:
        """Make encoder, posterior and decoder, with no memory yet → (name, shape) of what is learned and fitted."""
        p = self.likelihood = likelihoods.make(likelihood, self.backend, self.features)
        if self.missing and p.neutral is None:
            raise UsageError(f"likelihood {p.name!r} takes no missing values: leave missing=True out")
        self.inputs = make_inputs(self.input_kind, self.features, self.missing, p.encodings(), self.condition)
        joined = self.condition.width if self.condition else 0
        widths = [self.inputs.width if self.inputs else self.features, *self.hidden, 2 * self.latent_dim]
        reversed_widths = [self.latent_dim + joined, *reversed(self.hidden), p.width]
        self.encoder = MLP(self.backend, self.workspace, "encoder", widths, self.activation)
        self.posterior = GaussianPosterior(self.backend, self.workspace, self.latent_dim)
        self.decoder = MLP(self.backend, self.workspace, "decoder", reversed_widths, self.activation)
        own, fitted = ([(f"likelihood.{name}", shape) for name, shape in of] for of in (p.parameters(), p.fitted()))
        return self.encoder.parameters() + self.decoder.parameters() + own, fitted

    def lay_out(self, likelihood: str) -> None:
        """Make networks and objective for this likelihood, and fresh parameters."""
        self.buffer = ParameterBuffer(self.backend, *self.networks(likelihood))
        self.encoder.bind(self.buffer)
        self.decoder.bind(self.buffer)
        views, own = {**self.buffer.views, **self.buffer.fitted}, self.likelihood.parameters()
        self.likelihood.bind({name: views[f"likelihood.{name}"] for name, _ in own + self.likelihood.fitted()})
        grads = {name: self.buffer.grads[f"likelihood.{name}"] for name, _ in own}
        scratch = {name: self.backend.zeros(shape) for name, shape in own}
        self.d_params = self.likelihood.destinations(grads, counted=True)  # what a training step writes
        self.uncounted_d_params = self.likelihood.destinations(grads)  # what objective_and_grad writes
        self.scratch_d_params = self.likelihood.destinations(scratch)  # what everything else writes
        self.loss_fn = self.loss_class(self.likelihood, self.posterior, self.scratch_d_params)
        initialise(self.buffer, self.noise, self.init)
        self.undecided = False

    if not TYPE_CHECKING:  # or mypy would take any name

        def __getattr__(self, name: str) -> Any:
            """Name what `lay_out` makes before `fit` has chosen the likelihood "auto"."""
            if self.__dict__.get("undecided") and name in LAID_OUT:
                raise NotFitted("likelihood='auto' is chosen when `fit` sees the data: call fit first, or name one")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def parameters(self) -> dict[str, Array]:
        """Name → view of the flat parameters."""
        return self.buffer.views

    @property
    def gradients(self) -> dict[str, Array]:
        """Name → view of the flat gradients that the last `objective_and_grad` or `train_step` wrote."""
        return self.buffer.grads

    @property
    def seed(self) -> int:
        return self.noise.seed

    def config(self) -> dict[str, Any]:
        """The arguments that build this model again, as JSON knows them: all but the backend."""
        plain = self.input_kind in ("auto", "same") and not self.missing
        more: dict[str, Any] = {} if plain else {"inputs": self.input_kind, "missing": self.missing}
        more |= {"condition": self.condition.config()} if self.condition else {}
        return {
            "features": self.features, "latent_dim": self.latent_dim, "hidden": list(self.hidden),
            "activation": self.activation, "likelihood": "auto" if self.undecided else self.likelihood.name,
            "objective": self.loss_class.name, "samples": self.samples, "antithetic": self.antithetic,
            "seed": self.seed, "init": self.init, **more,
        }  # fmt: skip

    def given(self, X: Any, condition: Any = None, exposure: Any = None) -> Any:
        """X (N, D), or Z (N, L), with what is given of its rows, to be taken wherever X is: `validation=`, `evaluate` …

        X           also a table of the model's `schema`, which has its condition among its columns
        condition   (N,) or (N, columns) as the model was made with, or one for all rows
        exposure    (N,) > 0, or one: the means of counts are multiplied by it
        """
        plain = condition is None and exposure is None and self.schema is None
        return X if plain else Given.of(self, X, condition, exposure)

    # ---- forward and backward -----------------------------------------------------------------------------------

    def forward(
        self, X: Batch, eps: Array, beta: float, free_bits: float, d_params: Grads | None = None, training: bool = False
    ) -> Terms:
        """Rows X (B, D), eps (S, B, L) → the terms (eq. 13); what `backward` needs stays in the workspace.

        X   in the model's units (`inputs.py`); d_params and training as in `ELBO.forward`
        """
        S, B, L = eps.shape
        H = self.encoder.forward(X.x_in)  # [μ | ln σ²] (eq. 15)
        Z, kl_rows, kl_dims = self.posterior.forward(H, eps)
        out = self.decoded(Z.reshape(S * B, L), X)
        return self.loss_fn.forward(out, X, (kl_rows, kl_dims), beta, free_bits, d_params, training)

    def backward(self) -> None:
        """Write the loss's gradient with respect to every parameter (eq. 13, 24), from what `forward` left."""
        d_out = self.loss_fn.backward()
        dZ = self.decoded_backward(d_out)
        dH = self.loss_fn.backward_posterior(dZ)
        self.encoder.backward(dH, need_dX=False)  # (eq. 15)

    def decoded(self, Z: Array, beside: Batch | Given | None = None) -> Array:
        """Z (S·B, L) → out (S·B, width), a view of the workspace (eq. 17, 20).

        beside   the batch that Z belongs to: its condition is joined to Z, its exposure multiplies the means of counts
        """
        if self.condition:
            Z = self.condition.joined(Z, getattr(beside, "condition", None), self.workspace)
        out = self.decoder.forward(Z)
        if beside is not None and beside.log_exposure is not None:
            self.likelihood.expose(out.reshape(-1, beside.log_exposure.shape[0], out.shape[1]), beside.log_exposure)
        return out

    def decoded_backward(self, d_out: Array, need_dW: bool = True) -> Array:
        """d_out (S·B, width), which is overwritten → dZ (S·B, L), and the decoder's gradients unless need_dW=False."""
        dZ = self.decoder.backward(d_out, need_dW=need_dW)
        return self.condition.cut(dZ, self.workspace) if self.condition else dZ

    # ---- the objective, and a step down it ----------------------------------------------------------------------

    @locked
    def objective(
        self,
        X: Any,
        eps: Any = None,
        beta: float = 1.0,
        free_bits: float = 0.0,
        weights: Any = None,
        condition: Any = None,
        exposure: Any = None,
    ) -> Terms:
        """The loss of a training step and its parts for X (B, D) (eq. 13, 24); with "iwae" they are `WeightedTerms`.

        X          in the data's units; the terms are nats of the scaled data (evaluation adds the log-Jacobian)
        eps        (B, L), or (S, B, L) for S samples; None draws it from the evaluation stream, always the same
        beta       weight of the KL
        free_bits  nats of KL that each latent dimension has for nothing; not with objective "iwae"
        weights    (B,): each row's terms are multiplied by its weight. Of mean 1 where the loss is to stay a mean
        Changes no state. Raises UsageError for a wrong shape or a value outside the likelihood's domain. Under
        'gaussian:optimal' σ² is this batch's own, as in training; `evaluate` takes the model's.
        """
        return self._pass(self.given(X, condition, exposure), eps, beta, free_bits, weights)

    @locked
    def objective_and_grad(
        self,
        X: Any,
        eps: Any = None,
        beta: float = 1.0,
        free_bits: float = 0.0,
        weights: Any = None,
        condition: Any = None,
        exposure: Any = None,
    ) -> Terms:
        """`objective`, and `gradients` overwritten with the gradient of its loss (eq. 13, 24)."""
        return self._pass(self.given(X, condition, exposure), eps, beta, free_bits, weights, self.uncounted_d_params)

    def _pass(
        self, X: Any, eps: Any, beta: float, free_bits: float, weights: Any, d_params: Grads | None = None
    ) -> Terms:
        """Check, then forward and, where gradients have somewhere to go, backward."""
        batch = self._checked(X, beta, free_bits, weights)
        self.likelihood.check(filled(self, batch.X))
        eps = self.epsilon(eps, batch.X.shape[0], "evaluation", None, 0)
        terms = self.forward(batch, eps, beta, free_bits, d_params, training=True)
        if d_params is not None:
            self.backward()
        return terms.copy()

    def _checked(self, X: Any, beta: float, free_bits: float, weights: Any, look: bool = True) -> Batch:
        """X (B, D) in the data's units, with the weights of its rows → the batch; look: whether values are checked."""
        batch = rows_in(self, "X", X, look=look)
        self.loss_fn.check(beta, free_bits, weights is not None)
        if weights is not None:
            batch.weights = native(self, "weights", row_weights("weights", weights, batch.X.shape[0]))
        return batch

    @locked
    def train_step(
        self,
        X: Any,
        optimizer: Optimizer,
        rows: Any = None,
        eps: Any = None,
        beta: float = 1.0,
        free_bits: float = 0.0,
        clip: float | None = None,
        pass_: int | None = None,
        weights: Any = None,
        condition: Any = None,
        exposure: Any = None,
    ) -> Terms:
        """Noise, forward, backward, update: what `fit` repeats (eq. 24 for one sample).

        X      (B, D) in the data's units; the values are taken to lie in the likelihood's domain (`fit` and `objective`
               check), and on a device to be finite, for looking would wait
        rows   (B,) the rows' numbers in the data set, which choose their noise; None means 0 … B − 1
        eps, beta, free_bits, weights, condition, exposure   as in `objective`; eps: the noise itself
        clip   the gradient's largest global norm
        pass_  the pass over the data, which chooses the noise too; None counts this model's own calls
        Returns terms of the scaled data that are views, valid until the next call of the model, by any thread.
        """
        look = self.backend.name == "numpy"
        batch = self._checked(self.given(X, condition, exposure), beta, free_bits, weights, look)
        checks.has_method("optimizer", optimizer, "update", "an optimizer, such as mv.Adam(1e-3)")
        if rows is not None:
            batch.rows = self.backend.asarray(row_numbers("rows", rows, batch.X.shape[0]))
        number = self.passes + 1 if pass_ is None else pass_
        terms = self.step(batch, optimizer, beta, free_bits, clip, number, eps)
        if pass_ is None:
            self.passes = number
        return terms

    def step(
        self, batch: Batch, optimizer: Updates, beta: float, free_bits: float, clip: Any, pass_: int, eps: Any = None
    ) -> Terms:
        """`train_step` for a batch that is in the model's units, and checked: what `fit` calls."""
        eps = self.epsilon(eps, batch.X.shape[0], "posterior", batch.rows, pass_)
        terms = self.forward(batch, eps, beta, free_bits, self.d_params, training=True)
        if self.likelihood.closed_form:
            self.likelihood.fit(self.d_params)
        self.backward()
        self.update(optimizer, clip)
        return terms

    def update(self, optimizer: Updates, clip: float | None) -> None:
        """Clip the gradient's global norm, unless clip is None, and make the optimiser's step with it."""
        if clip is not None:
            norm = self.workspace.take("gradient_norm", (1,), np.float64)
            self.backend.ops.clip_norm(self.buffer.grad, norm, clip)
        optimizer.update(self.buffer.data, self.buffer.grad, self.backend)

    def epsilon(self, eps: Any, B: int, stream: str, rows: Array | None, pass_: int) -> Array:
        """The noise (S, B, L): the caller's, or drawn for the rows of these numbers (B,), None: 0 … B − 1."""
        if eps is not None:
            return noise_in(self, eps, B)
        out = self.workspace.take("eps", (self.samples, B, self.latent_dim))
        drawn = out[: self.samples // 2] if self.antithetic else out
        self.noise.normal(drawn, stream, self.noise.rows(0, B) if rows is None else rows, pass_)
        if self.antithetic:
            self.backend.xp.negative(drawn, out=out[self.samples // 2 :])
        return out
