"""annealing: estimate ln p(x) by annealed importance sampling (AIS), and bound its error. The encoder is not used.

A path of distributions leads from the prior to the posterior of eq. 14:

    f_t(z) = p(z) p(x|z)^{τ_t},   0 = τ_0 < … < τ_T = 1

A chain starts at z_0 ~ p(z). For t = 1 … T its weight grows by ln w += (τ_t − τ_{t−1}) ln p(x|z_{t−1}), and z_{t−1}
moves to z_t by a Hamiltonian transition that leaves f_t invariant. Then E[w] = p(x), and ln (1/C) Σ w of C chains is
below ln p(x) on average; more temperatures narrow the gap (Neal 2001).

**Both directions.** If x was drawn from the model, its z is an exact draw from the posterior. Chains that start there
and run the path in reverse give E[1/w] = 1/p(x), so −ln (1/C) Σ 1/w is above ln p(x) on average. On simulated data the
two enclose ln p(x), and their gap bounds the error of the first (Grosse, Ancha & Roy 2016; Wu, Burda, Salakhutdinov &
Grosse 2017).

A pilot run of a few chains chooses the step size for each row and temperature; the step is then fixed. A step that
adapted to the chains that it moves would not leave f_t invariant. The gradient with respect to z is the decoder's
backward pass. All noise comes from counters (`noise.py`), so that repeated calls give the same figure.

Shapes: C chains, b rows, L latent dimensions. Nats in the units of the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import checks
from ..backend import Array
from ..inputs import Batch, as_batch
from ..model import Model, locked
from ..units import scale_for
from . import passes
from .bounds import log_jacobian, row_jacobian
from .dealt import by_first, checked, over_rows
from .tiles import TILE_ROWS

if TYPE_CHECKING:
    from ..datasets.scale import Scale
    from ..distributed.world import World

PILOTS = 4  # chains of the pilot run
ACCEPTED = 0.65  # target share of accepted transitions (Neal 2011)
FIRST_STEP, LARGEST_STEP = 0.5, 1.5  # of the leapfrog; beyond 2 it is unstable on the prior itself
RATE = 0.1  # of adaptation: ln step += RATE · (share accepted − ACCEPTED)
JITTER = 0.2  # each step is varied by up to this share: trajectories of equal length may be periodic (Neal 2011)
SLOPE = 4.0  # of the sigmoid along which τ rises: small steps at both ends (Wu et al. 2017)
FORTH, BACK, PILOT = 0, 2**30, 2**31  # number of the first chain of each run, so that no two runs share noise


@dataclass(frozen=True)
class Annealed:
    """ln p(x) of each row: log_px (N,) and its standard error (N,), float64; the share of accepted transitions."""

    log_px: np.ndarray
    error: np.ndarray
    acceptance: float


@dataclass(frozen=True)
class Enclosed:
    """Lower and upper estimates of ln p(x) for N rows drawn from the model, with standard errors, (N,) float64 each."""

    lower: np.ndarray
    lower_error: np.ndarray
    upper: np.ndarray
    upper_error: np.ndarray
    acceptance: float

    @property
    def gap(self) -> float:
        """Mean of upper − lower: a bound on the error of AIS with these settings, on data drawn from the model."""
        return float((self.upper - self.lower).mean())


@locked
def annealed(
    vae: Model,
    X: Any,
    temperatures: int = 1000,
    chains: int = 16,
    leapfrog: int = 10,
    rows: Any = None,
    scale: Scale | None = None,
    binarize: str | None = None,
    ranks: World | None = None,
    everywhere: bool = True,
) -> Annealed:
    """Estimate ln p(x) for each row of X (N, D) by annealed importance sampling from the prior.

    temperatures  T, the number of steps of the path
    chains        C chains a row; the standard error (delta method) needs two and is NaN for one
    leapfrog      steps of the integrator in each transition
    rows, scale, binarize   as in `Batches`
    ranks, everywhere       as in `log_likelihood`
    Each row costs (C + 4) · T · leapfrog forward and backward passes of the decoder. `vae.gradients` do not change.
    """
    settings = _settings(temperatures, chains, leapfrog)
    batches = checked(vae, X, rows, scale, binarize, ranks)

    def block(part: slice) -> tuple[np.ndarray, ...]:
        batch, numbers = batches.at(part)
        path = AnnealedPath(vae, batch, numbers, *settings)
        log_mean, below = path.log_mean(path.forth())
        return log_mean - row_jacobian(vae, batches.scale, batch), below, path.acceptance()

    log_px, error, accepted = over_rows(
        ranks, len(batches), max(1, TILE_ROWS // chains), block, [()] * 3, everywhere=everywhere
    )
    return Annealed(log_px, error, by_first(ranks, lambda: float(accepted.mean())))


@locked
def enclose(
    vae: Model,
    n: int = 16,
    temperatures: int = 1000,
    chains: int = 16,
    leapfrog: int = 10,
    scale: Scale | None = None,
    ranks: World | None = None,
) -> Enclosed:
    """Run AIS in both directions on n rows drawn from the model; the other arguments are those of `annealed`.

    scale   None: the model's. Rows are drawn in the model's units; results are nats in the data's units
    """
    settings = _settings(temperatures, chains, leapfrog)
    scale = vae.scale if scale is None else scale_for(vae, scale)
    jacobian = log_jacobian(vae, scale)
    Z = passes.prior(vae, n)
    X = passes.decoded(vae, Z, draw=True)

    def block(part: slice) -> tuple[np.ndarray, ...]:
        path = AnnealedPath(vae, as_batch(vae, X[part]), vae.noise.rows(part.start, part.stop), *settings)
        (lower, below), acceptance = path.log_mean(path.forth()), path.acceptance()
        upper, above = path.log_mean(-path.back(Z[part]))
        return lower, below, -upper, above, acceptance

    lower, below, upper, above, accepted = over_rows(ranks, n, max(1, TILE_ROWS // chains), block, [()] * 5)
    return Enclosed(lower - jacobian, below, upper - jacobian, above, float(accepted.mean()))


def _settings(temperatures: int, chains: int, leapfrog: int) -> tuple[int, int, int]:
    return (
        checks.integer("temperatures", temperatures),
        checks.integer("chains", chains),
        checks.integer("leapfrog", leapfrog),
    )


def schedule(T: int) -> np.ndarray:
    """τ_0 = 0 … τ_T = 1, (T + 1,), along a sigmoid: steps are small at both ends, where ln p(x|z) changes most."""
    s = 1 / (1 + np.exp(-SLOPE * np.linspace(-1, 1, T + 1)))
    return (s - s[0]) / (s[-1] - s[0])


@dataclass
class State:
    """State of the chains: Z (C, b, L), nll (C, b) = −ln p(x|z) in float64, d_nll (C, b, L) = ∂nll/∂z."""

    Z: Array
    nll: Array
    d_nll: Array


class AnnealedPath:
    """The annealing path of a few rows X (b, D), with row numbers `rows` (b,), and the chains that follow it."""

    def __init__(self, vae: Model, X: Batch, rows: Array, T: int, C: int, leapfrog: int):
        self.vae, self.X, self.rows, self.C, self.leapfrog = vae, X, rows, C, leapfrog
        self.xp, self.tau = vae.backend.xp, schedule(T).tolist()
        self.accepted = self.xp.zeros(X.shape[0])
        self.steps = self._pilot()

    def forth(self) -> Array:
        """Return ln w (C, b) of chains from the prior to the posterior."""
        state = self.start(self.C, FORTH)
        log_w = self.xp.zeros((self.C, self.X.shape[0]))
        self.accepted[...] = 0
        for t in range(1, len(self.tau)):
            log_w -= (self.tau[t] - self.tau[t - 1]) * state.nll
            if t < len(self.tau) - 1:
                state, accepted = self.move(state, t, FORTH, self.steps[t])
                self.accepted += accepted
        return log_w

    def back(self, Z: Array) -> Array:
        """Return ln w (C, b) of chains from exact draws Z (b, L) of the posterior to the prior."""
        log_w = self.xp.zeros((self.C, self.X.shape[0]))
        state = self.explain(self.xp.ascontiguousarray(self.xp.zeros((self.C, 1, 1), self.vae.backend.dtype) + Z))
        for t in range(len(self.tau) - 1, 0, -1):
            if t < len(self.tau) - 1:
                state, _ = self.move(state, t, BACK, self.steps[t])
            log_w -= (self.tau[t] - self.tau[t - 1]) * state.nll
        return log_w

    def log_mean(self, log_w: Array) -> tuple[np.ndarray, np.ndarray]:
        """Return ln of the mean of w over the chains and its standard error (delta method), (b,) each, on the host."""
        log_w = self.vae.backend.to_host(log_w)
        C, largest = len(log_w), log_w.max(axis=0)
        with np.errstate(all="ignore"):  # a model with NaN in it gives NaN
            w = np.exp(log_w - largest)
            mean = w.mean(axis=0)
            error = w.std(axis=0, ddof=1) / math.sqrt(C) / mean if C > 1 else np.full_like(mean, np.nan)
            return largest + np.log(mean), error

    def acceptance(self) -> np.ndarray:
        """Return the share of transitions accepted in `forth`, (b,)."""
        return self.vae.backend.to_host(self.accepted) / max(1, len(self.tau) - 2)

    def _pilot(self) -> list[Array]:
        """Return the step (b,) of each transition t = 0 … T, adapted in a pilot run."""
        b, xp = self.X.shape[0], self.xp
        log_step, steps = xp.full(b, math.log(FIRST_STEP)), []
        state = self.start(PILOTS, PILOT)
        for t in range(len(self.tau)):
            steps.append(xp.exp(log_step).astype(self.vae.backend.dtype))
            if 0 < t < len(self.tau) - 1:
                state, accepted = self.move(state, t, PILOT, steps[t])
                log_step = xp.minimum(log_step + RATE * (accepted - ACCEPTED), math.log(LARGEST_STEP))
        return steps

    def start(self, C: int, first: int) -> State:
        """Start C chains at draws from the prior."""
        Z = self.vae.backend.empty((C, self.X.shape[0], self.vae.latent_dim))
        self.vae.noise.normal(Z, "AIS", self.rows, 0, sample=first)
        return self.explain(Z)

    def explain(self, Z: Array) -> State:
        """Compute nll and its gradient at Z (C, b, L)."""
        vae, (C, b, L) = self.vae, Z.shape
        with np.errstate(all="ignore"):  # a diverging trajectory gives NaN or ∞, which `move` rejects
            nll, d_out = passes.nll_and_grad(vae, vae.decoded(Z.reshape(C * b, L), self.X), self.X, 1.0)
            d_nll = vae.decoded_backward(d_out, need_dW=False)
        return State(Z, nll.reshape(C, b).astype("float64"), d_nll.reshape(C, b, L).copy())

    def move(self, state: State, t: int, first: int, step: Array) -> tuple[State, Array]:
        """One Hamiltonian transition at τ_t → the new state and the share (b,) of accepted proposals.

        The potential is U(z) = ½ ‖z‖² + τ nll, its gradient z + τ d_nll; leapfrog with steps (b,) and unit masses.
        """
        xp, tau = self.xp, self.tau[t]
        P, u = self.vae.backend.empty(state.Z.shape), self.vae.backend.empty((*state.nll.shape, 2))
        self.vae.noise.normal(P, "AIS", self.rows, 2 * t, sample=first)
        self.vae.noise.uniform(u, "AIS", self.rows, 2 * t + 1, sample=first)
        step = step.reshape(1, -1, 1) * (1 - JITTER + 2 * JITTER * u[:, :, 1:])
        with np.errstate(all="ignore"):
            before = self.energy(state, P, tau)
            new = State(state.Z.copy(), state.nll, state.d_nll)
            P -= 0.5 * step * (new.Z + tau * new.d_nll)
            for k in range(self.leapfrog):
                new.Z += step * P
                new = self.explain(new.Z)
                P -= (step if k < self.leapfrog - 1 else 0.5 * step) * (new.Z + tau * new.d_nll)
            # a comparison with NaN is False: such a proposal is rejected
            accept = xp.log(u[:, :, 0].astype("float64") + 2.0**-25) < before - self.energy(new, P, tau)
        which = accept.reshape(*accept.shape, 1)
        after = State(
            xp.where(which, new.Z, state.Z),
            xp.where(accept, new.nll, state.nll),
            xp.where(which, new.d_nll, state.d_nll),
        )
        return after, accept.mean(axis=0)

    @staticmethod
    def energy(state: State, P: Array, tau: float) -> Array:
        """U(z) + ½ ‖p‖², (C, b) float64."""
        return 0.5 * (state.Z * state.Z + P * P).sum(axis=2, dtype="float64") + tau * state.nll
