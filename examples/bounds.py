"""Every estimate of ln p(x) that minivae has, held against the exact answer: python examples/bounds.py

The model is linear and Gaussian, x = z W + b + 0.7 n, so that ln p(x) is known. Its encoder has the exact posterior's
means, and variances that are too large; then means that are lost altogether.
"""

import math

import numpy as np

import minivae as mv
from minivae.evaluation.annealing import annealed, enclose

SIGMA, D, L, N = 0.7, 5, 2, 500
rng = np.random.default_rng(5)
W, b = 0.8 * rng.normal(size=(L, D)), rng.normal(size=D)
covariance = W.T @ W + SIGMA**2 * np.eye(D)
X = rng.multivariate_normal(b, covariance, N)


def log_q(X: np.ndarray) -> np.ndarray:
    """ln N(x; b, WᵀW + σ² I) for each row."""
    delta, (_, log_det) = X - b, np.linalg.slogdet(2 * math.pi * covariance)
    return -0.5 * ((delta @ np.linalg.inv(covariance) * delta).sum(axis=1) + log_det)


def model(shift: float) -> mv.VAE:
    """The model with that encoder, its means off by `shift`."""
    vae = mv.VAE(D, L, (), "identity", f"gaussian:{SIGMA}", objective="iwae", dtype="float64", backend="numpy")
    posterior = np.linalg.inv(np.eye(L) + W @ W.T / SIGMA**2)
    p = vae.parameters
    p["decoder.0.W"][...], p["decoder.0.b"][...], p["encoder.0.W"][...] = W, b, 0
    p["encoder.0.W"][:, :L] = (posterior @ W).T / SIGMA**2
    p["encoder.0.b"][:L] = shift - posterior @ W @ b / SIGMA**2
    p["encoder.0.b"][L:] = np.log(np.diag(posterior)) + 0.8
    return vae


def line(name: str, rows: np.ndarray, exact: np.ndarray) -> None:
    """How far an estimate lies below the exact answer, and the error of that mean over rows."""
    below = exact - rows
    print(f"{name:42s} {rows.mean():9.4f}   below by {below.mean():8.4f} ± {below.std() / math.sqrt(len(rows)):.4f}")


def main() -> None:
    vae, exact = model(shift=0.0), log_q(X)
    line("exact", exact, exact)
    for K in (1, 2, 5, 20, 100, 500):
        eps = np.random.default_rng(K).normal(size=(K, N, L))
        line(f"importance-weighted bound, K = {K}", vae.objective(X, eps).bound_rows, exact)
    print("\nan encoder near the posterior, and one whose means are off by 3")
    for shift in (0.0, 3.0):
        vae = model(shift)
        line("importance sampling, 5000 samples", vae.log_likelihood(X[:100], 5000)[0], exact[:100])
        line("annealed, 200 temperatures, 64 chains", annealed(vae, X[:100], 200, 64, 5).log_px, exact[:100])
    print("\nannealed from both sides, on 100 rows that the model draws")
    for T in (4, 30, 200):
        both, drawn = enclose(vae, 100, T, 16, 5), log_q(vae.sample(100, draw=True))
        print(
            f"{T:4d} temperatures   {both.lower.mean():8.4f} ≤ {drawn.mean():8.4f} ≤ {both.upper.mean():8.4f}   "
            f"gap {both.gap:.4f}"
        )


if __name__ == "__main__":
    main()
