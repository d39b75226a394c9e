"""Train on CPU and GPU with the same seed and noise, and compare the loss curves, which should be equal.

python bench/bench_gpu_curves.py [--seconds 420] [--smoke]    → bench/results/gpu-curves.json and gpu-curves.png
"""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
from gpu_results import LEFT_OUT, MORE_TO_DO, Deadline, Results


def curve(backend, X, epochs):
    """The loss of each epoch."""
    import minivae as mv

    vae = mv.VAE(X.shape[1], 16, (256, 128), backend=backend, seed=1)
    history = vae.fit(X, epochs, 64, mv.Adam(1e-3), beta=mv.Beta(1, warmup=3), binarize="dynamic", progress=False)
    return history["loss"]


def main(arguments=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=420)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args(arguments)
    if find_spec("sklearn") is None:
        print("the digits need scikit-learn, which is not installed: no curves")
        return LEFT_OUT
    import minivae as mv

    digits = mv.load("digits").X.astype(np.float32)
    X, epochs = (digits[:128], 2) if options.smoke else (digits, 40)
    name = "curves-smoke" if options.smoke else "curves"
    results, deadline = Results(name, __file__), Deadline(options.seconds)
    for backend in ("numpy", "cupy"):
        if not results.done(backend):
            if deadline.passed():
                print(f"out of time before the curve of {backend}: run it again to go on")
                return MORE_TO_DO
            results.add(backend, loss=curve(backend, X, epochs))
    losses = {backend: np.array(results.cells[backend]["loss"]) for backend in ("numpy", "cupy")}
    apart = np.abs(losses["cupy"] / losses["numpy"] - 1)
    print(f"float32, {epochs} epochs: relative distance {apart[0]:.1e} after the first, {apart.max():.1e} at the most")
    try:
        draw(losses, results.path.with_suffix(".png"))
    except ImportError:
        print("matplotlib is not installed: no picture")
    return 0


def draw(losses, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    epochs = np.arange(1, len(losses["numpy"]) + 1)
    axes.plot(epochs, losses["numpy"], linewidth=5, alpha=0.4, label="CPU")
    axes.plot(epochs, losses["cupy"], linewidth=1.2, color="black", label="GPU")
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss, nats")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
