"""noise: which noise belongs to which row of which pass.

Random bits are a function of (seed, stream, row, sample, pass, dim) alone: `kernels/noise.py` says how. So they are
the same on every backend, for any batch size, and after a resume; and two uses never share bits, because each has a
stream of its own.

    stream      what it feeds                      row                    pass
    init        parameters                         the row of W           the number of the tensor
    split       test and validation parts          the row in the data    0: test, 1: validation
    shuffle     the order of an epoch              the row in the data    the epoch
    binarise    binarisation in training           the row in the data    the epoch; 0: static
    posterior   ε in training                      the row in the data    the epoch, or the model's own count
    prior       z ~ p(z) of `sample`               the row of the sample  0;  1: drawing x from p(x|z)
    evaluation  ε of objective and evaluation      the row in the data    0;  1: binarisation
    importance  z of importance sampling           the row in the data    0;  1 …: shares of the columns
    AIS         annealed importance sampling       the row in the data    0: z; 2t: momentum; 2t + 1: acceptance
"""

from __future__ import annotations

import numpy as np

from .backend import Array, Backend
from .errors import UsageError

NAMES = ("init", "split", "shuffle", "binarise", "posterior", "prior", "evaluation", "importance", "AIS")
STREAMS = {name: number for number, name in enumerate(NAMES)}


def check_seed(seed: int) -> int:
    """A seed is an integer of at most 64 bits."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**64:
        raise UsageError(f"seed={seed!r}: expected an integer from 0 to 2⁶⁴ − 1")
    return int(seed)


class Noise:
    """The noise of one seed on one backend. Every method fills `out`, which the caller owns.

    rows     (B,) integer array of the backend, below 2³²: which row of the data each row of `out` belongs to
    stream   a name in STREAMS
    pass_    which pass over the data
    sample   the number of the first sample of `out`
    """

    def __init__(self, backend: Backend, seed: int):
        self.backend = backend
        self.seed = check_seed(seed)

    def rows(self, start: int, stop: int) -> Array:
        """The row numbers start … stop − 1."""
        return self.backend.xp.arange(start, stop)

    def normal(self, out: Array, stream: str, rows: Array, pass_: int, sample: int = 0) -> None:
        """out (S, B, D) ← standard normals."""
        self.backend.ops.normal(out, rows, STREAMS[stream], sample, pass_, self.seed)

    def uniform(self, out: Array, stream: str, rows: Array, pass_: int, sample: int = 0) -> None:
        """out (S, B, D) ← uniforms in [0, 1)."""
        self.backend.ops.uniform(out, rows, STREAMS[stream], sample, pass_, self.seed)

    def binarize(self, X: Array, stream: str, rows: Array, pass_: int) -> None:
        """X (B, D) in [0, 1] ← Bernoulli draws of mean X, in place."""
        self.backend.ops.binarize(X, rows, STREAMS[stream], 0, pass_, self.seed)
