"""model: the mathematics of a VAE. One forward chain, and its backward pass.

    X ─ encoder ─ H=[μ|ln σ²] ─ posterior ─ Z ─ decoder ─ out ─ loss_fn(likelihood) ─ 𝓛        forward: to the right
    dX  encoder     dH          posterior   dZ  decoder  d_out  loss_fn(likelihood)            backward: to the left

    𝓛 = E_x[ E_{z~q(z|x)}[−ln p(x|z)] + β KL(q(z|x) ‖ p(z)) ]                          (eq. 13; β = 1)

or the importance-weighted bound: `objectives/` has both. There is no graph and no tape: what `backward` needs,
`forward` leaves in the workspace. Training, files and evaluation stand above, in `vae.py`.

The letters are those of Kingma & Welling (2014): encoder q(z|x), decoder p(x|z), prior p(z). The article that
"(eq. 13)" counts writes p and q the other way round.

Legend: B rows, D features, H hidden units, L latent dimensions, S samples of z for each row. Nats; sums over features,
means over rows. `logvar` = ln σ².
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import wraps
from threading import RLock
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from . import checks, likelihoods, objectives
from .backend import Array, Backend, resolve
from .buffers import ParameterBuffer, Workspace
from .errors import NotFitted, UsageError
from .inputs import NEEDS_CONDITION, Batch, Condition, Given, exposures
from .inputs import make as make_inputs
from .latent import GaussianPosterior
from .layers import MLP, initialise
from .noise import Noise
from .objectives import Terms

if TYPE_CHECKING:
    from .datasets.scale import Scale
    from .optim import Optimizer, Updates

LAID_OUT = ("likelihood", "encoder", "posterior", "decoder", "buffer", "loss_fn", "parameters", "gradients")
BATCH_ROWS = 1024  # rows at a time where a method streams over many
P = ParamSpec("P")
R = TypeVar("R")


def explained(X: Any) -> Array:
    """What the decoder explains of a batch, (B, D): X itself, or that of a `Batch`."""
    return getattr(X, "X", X)


def mask_of(X: Any) -> Array | None:
    """The mask (B, D) uint8 of a `Batch`; None where every cell was observed."""
    return getattr(X, "mask", None)


def locked(call: Callable[P, R]) -> Callable[P, R]:
    """Let one thread at a time into a method of a model, or a function whose first argument is one."""

    @wraps(call)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        model: Any = args[0] if args else kwargs.get("vae")
        with getattr(model, "lock", nullcontext()):  # what is no model is an error of the call's own
            return call(*args, **kwargs)

    return alone


class Model:
    """A variational auto-encoder's mathematics: MLP encoder and decoder, Gaussian posterior, prior N(0, I).

    The arguments are described in `VAE`, the class for users. What computes takes a Model.

    `parameters` and `gradients` map names to views of the flat buffers: "encoder.0.W" (D, H), "encoder.0.b" …
    """

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
        features, latent_dim = checks.integer("features", features), checks.integer("latent_dim", latent_dim)
        samples = checks.integer("samples", samples)
        if isinstance(hidden, (str, int)) or not hasattr(hidden, "__iter__"):
            raise UsageError(f"hidden={hidden!r}: expected a tuple of widths, as in (500,), or () for a linear model")
        self.hidden = tuple(checks.integer(f"hidden[{i}]", width) for i, width in enumerate(hidden))
        table: Any = likelihood
        self.schema = table if hasattr(table, "blocks") else None  # a table's `mv.Columns`
        likelihood = likelihoods.name_of(likelihood)
        names = {"activation": activation, "likelihood": likelihood, "objective": objective, "init": init}
        names["inputs"] = inputs
        for name, text in names.items():
            checks.instance_of(name, text, str, "its name")
        loss_class = objectives.find(objective)
        if checks.boolean("antithetic", antithetic) and samples % 2:
            raise UsageError(
                f"samples={samples} with antithetic=True: expected an even number, for they come in pairs ε and −ε"
            )
        self.features, self.latent_dim = features, latent_dim
        self.activation, self.init, self.loss_class = activation, init, loss_class
        self.samples, self.antithetic = samples, bool(antithetic)
        self.backend = resolve(backend, kernels, dtype)
        self.workspace = Workspace(self.backend)
        self.noise = Noise(self.backend, seed)
        self.lock = RLock()  # held by every public call
        self._scale: Scale | None = None
        self._binarize = "none"
        self._columns: tuple[str, ...] | None = None if self.schema is None else tuple(self.schema.names)
        self.passes = 0  # epochs of `fit` and bare training steps so far: the noise counter's `pass`

        self.input_kind, self.missing = inputs, checks.boolean("missing", missing)
        self.condition = Condition.of(condition)
        self.undecided = likelihood == "auto"  # until `fit` sees the data
        if not self.undecided:
            self.lay_out(likelihood)

    def lay_out(self, likelihood: str) -> None:
        """Make encoder, decoder and objective for this likelihood, and fresh parameters."""
        features, latent_dim, activation = self.features, self.latent_dim, self.activation
        self.likelihood = likelihoods.make(likelihood, self.backend, features)
        if self.missing and self.likelihood.neutral is None:
            raise UsageError(f"likelihood {self.likelihood.name!r} takes no missing values: leave missing=True out")
        suited, joined = self.likelihood.encodings(), self.condition.width if self.condition else 0
        self.inputs = make_inputs(self.input_kind, features, self.missing, suited, self.condition)
        widths = [self.inputs.width if self.inputs else features, *self.hidden, 2 * latent_dim]
        reversed_widths = [latent_dim + joined, *reversed(self.hidden), self.likelihood.width]
        self.encoder = MLP(self.backend, self.workspace, "encoder", widths, activation)
        self.posterior = GaussianPosterior(self.backend, self.workspace, latent_dim)
        self.decoder = MLP(self.backend, self.workspace, "decoder", reversed_widths, activation)

        own = [(f"likelihood.{name}", shape) for name, shape in self.likelihood.parameters()]
        fitted = [(f"likelihood.{name}", shape) for name, shape in self.likelihood.fitted()]
        self.buffer = ParameterBuffer(self.backend, self.encoder.parameters() + self.decoder.parameters() + own, fitted)
        self.encoder.bind(self.buffer)
        self.decoder.bind(self.buffer)
        views = {**self.buffer.views, **self.buffer.fitted}
        self.likelihood.bind({name.partition(".")[2]: views[name] for name, _ in own + fitted})
        grads = {name.partition(".")[2]: self.buffer.grads[name] for name, _ in own}
        scratch = {name: self.backend.zeros(grad.shape) for name, grad in grads.items()}
        self.d_params = self.likelihood.destinations(grads, counted=True)  # what a training step writes
        self.uncounted_d_params = self.likelihood.destinations(grads)  # what objective_and_grad writes
        self.scratch_d_params = self.likelihood.destinations(scratch)  # what everything else writes
        self.loss_fn = self.loss_class(self.backend, self.workspace, self.likelihood, self.posterior)
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

    @property
    def scale(self) -> Scale | None:
        """The map from the data's units to those of encoder and decoder; None: they are the same. `fit` sets it."""
        return self._scale

    @scale.setter
    def scale(self, scale: Scale | None) -> None:
        self._scale = self.checked_scale(scale)

    def checked_scale(self, scale: Scale | None) -> Scale | None:
        """The scale, None for the identity; UsageError for one that this model cannot have."""
        if checks.scale(scale, self.features) is None or scale is None or scale.kind == "none":
            return None
        kept = self.likelihood.scales
        if kept and not all(k or (a == 0 and f == 1) for k, a, f in zip(kept, scale.shift, scale.factor, strict=True)):
            raise UsageError(
                "this scale changes counts or classes: expected one that scales the real columns alone, as "
                "fit(scale='standard') makes it"
            )
        if self.likelihood.integer:
            raise UsageError(
                f"likelihood {self.likelihood.name!r} explains integers, and the scaling {scale.kind!r} makes "
                "them others: leave it out (--scale none)"
            )
        return scale

    @property
    def binarize(self) -> str:
        """How rows become 0 or 1 after scaling: "none", "threshold", "static" or "dynamic". `fit(binarize=)` sets it.

        Evaluation binarises alike, by the evaluation stream; a single pass, as `encode`, applies "threshold" alone.
        """
        return self._binarize

    @binarize.setter
    def binarize(self, how: str) -> None:
        self._binarize = self.checked_binarize(how)

    def checked_binarize(self, how: str) -> str:
        """`how`; UsageError for one that this model cannot have."""
        if checks.choice("binarize", how, checks.BINARIZE) != "none" and self.missing:
            raise UsageError(f"binarize={how!r} with missing=True: a missing value is neither 0 nor 1; take 'none'")
        return how

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The names of the D columns, for messages and the model's file; None where nobody has named them."""
        return self._columns

    @columns.setter
    def columns(self, names: Sequence[str] | None) -> None:
        listed = None if names is None or isinstance(names, str) or not hasattr(names, "__iter__") else tuple(names)
        if names is not None and (listed is None or len(listed) != self.features or {*map(type, listed)} - {str}):
            raise UsageError(f"columns={names!r}: expected {self.features} names, one for each column")
        self._columns = listed

    def config(self) -> dict[str, Any]:
        """The arguments that build this model again, as JSON knows them: all but the backend."""
        plain = self.input_kind in ("auto", "same") and not self.missing
        more: dict[str, Any] = {} if plain else {"inputs": self.input_kind, "missing": self.missing}
        if self.condition:
            more["condition"] = self.condition.config()
        return {
            "features": self.features,
            "latent_dim": self.latent_dim,
            "hidden": list(self.hidden),
            "activation": self.activation,
            "likelihood": "auto" if self.undecided else self.likelihood.name,
            "objective": self.loss_class.name,
            "samples": self.samples,
            "antithetic": self.antithetic,
            "seed": self.seed,
            "init": self.init,
            **more,
        }

    # ---- forward and backward -----------------------------------------------------------------------------------

    def forward(
        self,
        X: Array,
        eps: Array,
        beta: float,
        free_bits: float,
        d_params: dict[str, Array] | None = None,
        training: bool = False,
        weights: Array | None = None,
        x_in: Any = None,
    ) -> Terms:
        """X (B, D), eps (S, B, L) → the terms (eq. 13); what `backward` needs stays in the workspace.

        X          what the decoder explains, in the model's units, or a `Batch` (`inputs.py`)
        d_params   where the likelihood's own gradients go (`Likelihood.destinations`); None: no `backward` follows, and
                   no gradient is written where the likelihood can leave it out
        training   as in `ELBO.forward`; without it, this is evaluation: the model as it stands
        weights    (B,) of the rows; None: 1
        x_in       (B, W) what the encoder sees; None: what `inputs` makes of X, which is X itself unless asked for
        """
        S, B, L = eps.shape
        X = self.batch(X)
        H = self.encoder.forward(getattr(X, "x_in", X) if x_in is None else x_in)  # [μ | ln σ²] (eq. 15)
        Z, kl_rows, kl_dims = self.posterior.forward(H, eps)
        out = self.decoded(Z.reshape(S * B, L), X)
        gradient = d_params is not None
        d_params = self.scratch_d_params if d_params is None else d_params
        terms = (kl_rows, kl_dims), beta, free_bits, d_params, training, weights
        return self.loss_fn.forward(out, explained(X), *terms, mask_of(X), gradient)

    def backward(self) -> None:
        """Write the loss's gradient with respect to every parameter (eq. 13, 24), from what `forward` left."""
        d_out = self.loss_fn.backward()
        dZ = self.decoded_backward(d_out)
        dH = self.loss_fn.backward_posterior(dZ)
        self.encoder.backward(dH, need_dX=False)  # (eq. 15)

    def batch(self, X: Any) -> Any:
        """X (B, D) in the model's units as a pass takes it: itself, or with what the encoder sees (`inputs.py`)."""
        return X if self.inputs is None else self.inputs(X, self.backend, self.workspace)

    def encoded(self, X: Any) -> Array:
        """X (B, D), or a `Batch` → H = [μ | ln σ²] (B, 2L), a view of the workspace (eq. 15)."""
        return self.encoder.forward(getattr(self.batch(X), "x_in", X))

    def decoded(self, Z: Array, X: Any = None) -> Array:
        """Z (S·B, L) of the rows of a batch X → out (S·B, width), a view of the workspace (eq. 17, 20).

        X   a `Batch` or `Given`: its condition is joined to Z, its exposure multiplies the means of counts
        """
        condition, log_exposure = getattr(X, "condition", None), getattr(X, "log_exposure", None)
        if self.condition:
            if condition is None:
                raise UsageError(NEEDS_CONDITION)
            b, L = condition.shape[0], self.latent_dim
            joined = self.workspace.take("joined", (Z.shape[0], L + condition.shape[1]))
            joined[:, :L] = Z
            joined.reshape(-1, b, joined.shape[1])[:, :, L:] = condition
            Z = joined
        out = self.decoder.forward(Z)
        if log_exposure is not None:
            self.likelihood.expose(out.reshape(-1, log_exposure.shape[0], out.shape[1]), log_exposure)
        return out

    def decoded_backward(self, d_out: Array, need_dW: bool = True) -> Array:
        """d_out (S·B, width), which is overwritten → dZ (S·B, L), and the decoder's gradients unless need_dW=False."""
        dZ: Any = self.decoder.backward(d_out, need_dW=need_dW)
        if self.condition:
            out = self.workspace.take("dZ", (dZ.shape[0], self.latent_dim))
            out[...] = dZ[:, : self.latent_dim]
            return out
        return dZ

    def given(self, X: Any, condition: Any = None, exposure: Any = None) -> Any:
        """X (N, D), or Z (N, L), with what is given of its rows, to be taken wherever X is: `validation=`, `evaluate` …

        X           also a table of the model's `schema`, which has its condition among its columns
        condition   (N,) or (N, columns) as the model was made with, or one for all rows
        exposure    (N,) > 0, or one: the means of counts are multiplied by it
        """
        if self.schema is not None and self.schema.is_table(X):
            condition = self.schema.condition(X) if condition is None else condition
            X = self.schema.encode(X)
        if condition is None and exposure is None:
            return X
        if isinstance(X, Given) or not hasattr(X, "shape"):
            raise UsageError("condition and exposure: expected an array of rows beside them")
        if condition is not None and self.condition is None:
            raise UsageError("condition: this model was made without one; make it with mv.VAE(…, condition=C)")
        if exposure is not None and not self.likelihood.exposable:
            raise UsageError(f"exposure is for counts, and likelihood {self.likelihood.name!r} explains none")
        n = X.shape[0]
        encoded = None if condition is None or self.condition is None else self.condition.encode(condition, n)
        return Given(X, encoded, None if exposure is None else exposures(exposure, n))

    def beside(self, X: Any, given: Any) -> Any:
        """A batch X (B, D) with the condition and exposure of `given`, whose rows are the same."""
        condition, exposure = given.condition, given.log_exposure
        condition = None if condition is None else self.native("condition", condition)
        exposure = None if exposure is None else self.native("log_exposure", exposure)
        if self.inputs is not None:
            return self.inputs(X, self.backend, self.workspace, condition, exposure)
        return Batch(explained(X), getattr(X, "x_in", X), mask_of(X), condition, exposure)

    def nll(self, out: Array, X: Any) -> Array:
        """out (S·B, width), X (B, D) → −ln p(x|z) (S·B,) in evaluation: scratch."""
        return self.nll_and_grad(out, X, 0.0, gradient=not self.likelihood.forward_only)[0]

    def nll_and_grad(self, out: Array, X: Any, weight: Any, gradient: bool = True) -> tuple[Array, Any]:
        """out (S·B, width), X (B, D) → −ln p(x|z) (S·B,), d_out (S·B, width): `Likelihood.nll_and_grad` in evaluation.

        Both are scratch. Nothing else is changed.
        """
        nll = self.workspace.take("nll", (out.shape[0],))
        d_out = self.workspace.take("d_out", out.shape) if gradient else None
        masked = () if (mask := mask_of(X)) is None else (mask,)
        self.likelihood.nll_and_grad(nll, d_out, self.scratch_d_params, out, explained(X), weight, *masked)
        return nll, d_out

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
        X, eps, weights = self._checked(self.given(X, condition, exposure), eps, beta, free_bits, weights)
        return self.forward(X, eps, beta, free_bits, training=True, weights=weights).copy()

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
        X, eps, weights = self._checked(self.given(X, condition, exposure), eps, beta, free_bits, weights)
        terms = self.forward(X, eps, beta, free_bits, self.uncounted_d_params, True, weights)
        self.backward()
        return terms.copy()

    def _checked(
        self, X: Any, eps: Any, beta: float, free_bits: float, weights: Any
    ) -> tuple[Array, Array, Array | None]:
        X = self.rows_in("X", X)
        self.likelihood.check(self.filled(explained(X)))
        self.loss_fn.check(beta, free_bits, weights is not None)
        return X, self.epsilon(eps, X.shape[0], "evaluation", None, 0), self.weights_in(weights, X.shape[0])

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

        X        (B, D) in the data's units; the values are taken to lie in the likelihood's domain (`fit` and
                 `objective` check), and on a device to be finite, for looking would wait
        rows     (B,) the rows' numbers in the data set, which choose their noise; None means 0 … B − 1
        eps      (B, L) or (S, B, L): the noise itself, instead
        clip     the gradient's largest global norm
        pass_    the pass over the data, which chooses the noise too; None counts this model's own calls
        weights  (B,) of the rows, as in `objective`
        Returns terms of the scaled data that are views, valid until the next call of the model, by any thread.
        """
        X = self.rows_in("X", self.given(X, condition, exposure), look=self.backend.name == "numpy")
        self.loss_fn.check(beta, free_bits, weights is not None)
        checks.has_method("optimizer", optimizer, "update", "an optimizer, such as mv.Adam(1e-3)")
        number = self.passes + 1 if pass_ is None else pass_
        weights = self.weights_in(weights, X.shape[0])
        terms = self.step(X, optimizer, rows, eps, beta, free_bits, clip, number, weights)
        if pass_ is None:
            self.passes = number
        return terms

    def step(
        self,
        X: Array,
        optimizer: Updates,
        rows: Any,
        eps: Any,
        beta: float,
        free_bits: float,
        clip: float | None,
        pass_: int,
        weights: Array | None = None,
    ) -> Terms:
        """`train_step` for rows X (B, D) that are in the model's units, and checked: what `fit` calls."""
        eps = self.epsilon(eps, X.shape[0], "posterior", rows, pass_)
        terms = self.forward(X, eps, beta, free_bits, self.d_params, True, weights)
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

    # ---- using the model ----------------------------------------------------------------------------------------

    @locked
    def encode(self, X: Any, device: bool = False, condition: Any = None) -> tuple[Array, Array]:
        """X (N, D) → mean and logvar of q(z|x), (N, L) each (eq. 15); on the host unless device=True."""
        L = self.latent_dim
        X = self.whole("X", self.given(X, condition))
        H = self._stream(lambda block, first: self.encoded(self.rows_in("X", block, first)), X, device)
        return H[:, :L], H[:, L:]

    @locked
    def decode(
        self,
        Z: Any,
        draw: bool = False,
        device: bool = False,
        seed: int | None = None,
        condition: Any = None,
        exposure: Any = None,
    ) -> Array:
        """Z (N, L) → E[x|z] (N, D); draw=True: x ~ p(x|z), with the noise of `seed` (the model's, unless given).

        condition, exposure   as in `given`
        In the data's units: with a scale, float64.
        """
        Z = self.given(checks.array("Z", Z, self.latent_dim), condition, exposure)
        return self._stream(lambda z, first: self.in_data_units(self.decode_rows(z, draw, first, seed)), Z, device)

    @locked
    def reconstruct(self, X: Any, device: bool = False, condition: Any = None, exposure: Any = None) -> Array:
        """X (N, D) → E[x|z] at the mean of q(z|x), (N, D), in the data's units; of a table, a table."""
        L, came = self.latent_dim, X

        def there_and_back(block: Any, first: int) -> Array:
            X = self.rows_in("X", block, first)
            Z = self.backend.xp.ascontiguousarray(self.encoded(X)[:, :L])
            return self.in_data_units(self.likelihood.mean(self.decoded(Z, X)))

        rows = self._stream(there_and_back, self.whole("X", self.given(X, condition, exposure)), device)
        return rows if self.schema is None else self.schema.like(came, rows)

    @locked
    def sample(
        self,
        n: int,
        seed: int | None = None,
        draw: bool = False,
        device: bool = False,
        condition: Any = None,
        exposure: Any = None,
    ) -> Array:
        """n rows from the model: z ~ N(0, I), then E[x|z] (n, D), or x ~ p(x|z) with draw=True, in the data's units.

        condition, exposure   of the rows, or one for all: `vae.sample(8, condition=7)` gives sevens
        The same n rows each time, for one seed: the model's, unless given.
        """
        n = checks.integer("n", n)
        noise = self.noise if seed is None else Noise(self.backend, seed)
        Z = self.backend.empty((1, n, self.latent_dim))
        noise.normal(Z, "prior", noise.rows(0, n), pass_=0)
        return self.decode(Z[0], draw, device, seed, condition, exposure)

    # ---- from the data's units to the model's, and back ---------------------------------------------------------

    def rows_in(self, name: str, X: Any, first: int = 0, look: bool = True) -> Array:
        """X (B, D) in the data's units, checked → as the encoder takes it: scaled, thresholded, the backend's, C order.

        X may be rows of scipy.sparse (`sparse.py`).

        first   the number of X's first row, for messages;  look: whether the values are checked
        """
        if isinstance(X, Given):
            return self.beside(self.rows_in(name, X.X, first, look), X)
        if isinstance(X, Batch):
            return X
        if hasattr(X, "tocsr"):
            from .sparse import rows_in

            return rows_in(self, name, X, first)
        checks.array(name, X, self.features)
        if self.scale is not None:
            X = self.scale.apply(self.backend.to_host(X), self.backend.dtype)
        X = self.native(name, X)
        if look:
            checks.finite(name, X, first, self.columns, self.backend.to_host, self.missing)
        if self.binarize == "threshold":
            out = self.workspace.take(name, X.shape)
            out[...] = X >= 0.5
            X = out
        return X if self.backend.sparse != "yes" or self.inputs is not None else self._listed(X)

    def _listed(self, X: Array) -> Any:
        """A dense batch, and its non-zeros, which the encoder's first product takes (`sparse.py`)."""
        from .sparse import with_nonzeros

        return with_nonzeros(X, self.workspace)

    def whole(self, name: str, X: Any) -> Any:
        """X (N, D), checked, to be taken in blocks: itself, or as CSR where it is scipy.sparse's."""
        X = self.given(X)
        if isinstance(X, Given):
            return Given(self._checked_whole(name, X.X), X.condition, X.log_exposure)
        if self.condition:
            raise UsageError(NEEDS_CONDITION)
        return self._checked_whole(name, X)

    def _checked_whole(self, name: str, X: Any) -> Any:
        if hasattr(X, "tocsr"):
            from .sparse import whole

            return whole(self, name, X)
        return checks.array(name, X, self.features)

    def filled(self, X: Any) -> Any:
        """X with a value of the likelihood's domain in every missing cell, for checks of the others; X if none may."""
        if not self.missing or self.likelihood.neutral is None:
            return X
        xp = self.backend.xp if self.backend.owns(X) else np
        return xp.where(X == X, X, xp.asarray(self.likelihood.neutral[1]))

    @locked
    def in_model_units(self, X: Any) -> np.ndarray:
        """X (N, D) in the data's units → as the encoder takes it, on the host: scaled, and thresholded."""
        X = self.whole("X", X)
        return self._stream(lambda block, first: explained(self.rows_in("X", block, first)), X, device=False)

    def in_data_units(self, X: Array) -> Array:
        """X (N, D) in the model's units → in the data's; with a scale, in float64 on the host."""
        return X if self.scale is None else self.scale.undo(self.backend.to_host(X))

    def native(self, name: str, x: Any) -> Array:
        """x as a C-contiguous array of the backend in the model's dtype: itself, or scratch of that name."""
        if self.backend.owns(x) and x.dtype == self.backend.dtype and x.flags.c_contiguous:
            return x
        out = self.workspace.take(name, x.shape)
        self.backend.assign(out, x)
        return out

    def weights_in(self, weights: Any, B: int) -> Array | None:
        """Weights of B rows, checked → as the backend's array (B,) of the model's dtype; None stays None."""
        return None if weights is None else self.native("weights", checks.weights("weights", weights, B))

    def epsilon(self, eps: Any, B: int, stream: str, rows: Any, pass_: int) -> Array:
        """The noise (S, B, L): the caller's, or drawn."""
        S, L = self.samples, self.latent_dim
        if eps is None:
            out = self.workspace.take("eps", (S, B, L))
            if rows is None:
                rows = self.noise.rows(0, B)
            elif not self.backend.owns(checks.row_numbers("rows", rows, B)):
                rows = self.backend.asarray(rows)
            drawn = out[: S // 2] if self.antithetic else out
            self.noise.normal(drawn, stream, rows, pass_)
            if self.antithetic:
                self.backend.xp.negative(drawn, out=out[S // 2 :])
            return out
        shape = tuple(getattr(eps, "shape", ()))
        if shape == (B, L):
            eps = eps.reshape(1, B, L)
        elif len(shape) != 3 or shape[0] == 0 or shape[1:] != (B, L):
            raise UsageError(f"eps: expected ({B}, {L}), or (S, {B}, {L}) for S samples; got {shape}")
        return self.native("eps", checks.finite("eps", eps) if isinstance(eps, np.ndarray) else eps)

    # ---- streaming ----------------------------------------------------------------------------------------------

    def decode_rows(self, Z: Any, draw: bool = False, first: int = 0, seed: int | None = None) -> Array:
        """Z (B, L), rows `first` … of the whole → E[x|z] or a draw (B, D), in the model's units."""
        given, Z = (Z, Z.X) if isinstance(Z, Given) else (None, Z)
        if given is not None:
            given = Given(
                Z,
                *(
                    None if x is None else self.native(name, x)
                    for name, x in (("condition", given.condition), ("log_exposure", given.log_exposure))
                ),
            )
        Z = self.native("Z_given", checks.finite("Z", Z, first, to_host=self.backend.to_host))
        out = self.decoded(Z, given)
        if not draw:
            return self.likelihood.mean(out)
        noise = self.noise if seed is None else Noise(self.backend, seed)
        u = self.workspace.take("draw", (1, Z.shape[0], self.features))
        fill = noise.uniform if self.likelihood.noise == "uniform" else noise.normal
        fill(u, "prior", noise.rows(first, first + Z.shape[0]), pass_=1)
        return self.likelihood.draw(out, u[0])

    def _stream(self, function: Callable[[Any, int], Array], X: Any, device: bool) -> Array:
        """`function` of (block of rows, number of its first row), its results copied into one array."""
        result: Any = None
        for first, block in blocks(X):
            part = function(block, first)
            part = self.backend.asarray(part) if device else self.backend.to_host(part)
            if result is None:
                shape = (X.shape[0], part.shape[1])
                result = self.backend.empty(shape, part.dtype) if device else np.empty(shape, part.dtype)
            result[first : first + block.shape[0]] = part
        return result


def blocks(X: Any, size: int = BATCH_ROWS) -> Iterator[tuple[int, Any]]:
    """(first row, block of rows) over X."""
    for start in range(0, X.shape[0], size):
        yield start, X[start : start + size]
