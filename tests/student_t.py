"""student_t: a likelihood that minivae does not have, registered from outside: Student's t, ν = 5 degrees of freedom.

For a mean m, a log-scale s (clamped to c = min(max(s, −5), 5)) and a value x, with u = (x − m)² e^{−2c}/ν:

    −ln p(x|z) = Σ_d  ½(ν+1) ln(1 + u) + c + ln Γ(½ν) − ln Γ(½(ν+1)) + ½ ln νπ
    dm         = w (ν+1) (m − x) e^{−2c}/(ν (1 + u))
    ds         = w [1 − (ν+1) u/(1 + u)]  where −5 ≤ s ≤ 5, else 0
"""

import math

import numpy as np

import minivae as mv
from minivae.kernels import Op
from minivae.kernels._math import exp, like, log, point
from minivae.kernels._op import WEIGHTS, counter, normal, poison, row_weight
from minivae.kernels._rows import as_column
from minivae.kernels._two_outputs import two_clamped_outputs
from minivae.likelihoods import Likelihood

NU = 5.0
LOW, HIGH = -5.0, 5.0
CONSTANT = math.lgamma(NU / 2) - math.lgamma((NU + 1) / 2) + 0.5 * math.log(NU * math.pi)


def reference(xp, nll_rows, d_out, clamped, out, X, weight):
    """Per-row −ln p(x|z) and its weighted gradient; shapes as in `kernels/laplace.py`."""
    B, D = X.shape
    out, d_out = out.reshape(-1, B, 2 * D), d_out.reshape(-1, B, 2 * D)
    s = out[:, :, D:]
    c = xp.clip(s, LOW, HIGH)
    inside = (s >= LOW) & (s <= HIGH)
    clamped += (~inside).sum()
    precision, delta = xp.exp(-2 * c), out[:, :, :D] - X
    u = delta * delta * precision / NU
    nll_rows.reshape(-1, B)[...] = ((NU + 1) / 2 * xp.log1p(u) + c + CONSTANT).sum(axis=2)
    weight = as_column(weight, B)
    d_out[:, :, :D] = weight * ((NU + 1) / NU * delta * precision / (1 + u))
    d_out[:, :, D:] = xp.where(inside, weight * (1 - (NU + 1) * u / (1 + u)), 0)


@point
def _student_t(m, s, x):
    one, low, high = like(x, 1.0), like(x, LOW), like(x, HIGH)
    c = low if s < low else s
    c = high if c > high else c
    inside = c == s
    precision, delta = exp(like(x, -2.0) * c), m - x
    u = delta * delta * precision * like(x, 1 / NU)
    share = like(x, NU + 1) / (one + u)
    ds = one - share * u if inside else like(x, 0.0)
    loss = like(x, (NU + 1) / 2) * log(one + u) + c + like(x, CONSTANT)
    return loss, share * delta * precision * like(x, 1 / NU), ds, inside


def example(rng, dtype, S, B, D, case):
    """Log-scales of which some are clamped."""
    out, X = 3 * normal(rng, dtype, S * B, 2 * D), normal(rng, dtype, B, D)
    weight = row_weight(rng, dtype, S, B, case)
    return poison(dtype, S * B), poison(dtype, S * B, 2 * D), counter(), out, X, weight


OP = Op(
    reference, two_clamped_outputs(_student_t), None, example,
    outputs=("nll_rows", "d_out"), updated=("clamped",), cases=WEIGHTS,
    scale=lambda nll_rows, d_out, clamped, out, X, weight: X.shape[1] * math.exp(HIGH),
)  # fmt: skip


class StudentT(Likelihood):
    """p(x|z) = Π_d Student's t with 5 degrees of freedom, mean and ln scale from the decoder: heavy tails."""

    name = "student-t"
    is_density = True
    noise = "uniform"
    clamps = True

    @property
    def width(self):
        return 2 * self.features

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
        self.backend.ops.student_t(nll_rows, d_out, d_params["clamped"], out, X, weight)

    def mean(self, out):
        return out[:, : self.features]

    def draw(self, out, noise):
        from scipy.special import stdtrit

        to_host, D = self.backend.to_host, self.features
        out, u = to_host(out).astype(np.float64), np.clip(to_host(noise), 2.0**-25, 1 - 2.0**-25)
        x = out[:, :D] + np.exp(np.clip(out[:, D:], LOW, HIGH)) * stdtrit(NU, u)
        return self.backend.asarray(x, self.backend.dtype)


mv.register_likelihood("student-t", StudentT, OP)
