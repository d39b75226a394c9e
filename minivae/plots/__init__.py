"""plots: pictures of a run and of its latent space. Matplotlib (extra `viz`) is imported at the first drawing.

Every function takes arrays on the host, returns a Matplotlib Figure, and writes it where a path is given: .png, .svg or
.pdf. Rows that are pictures are drawn pixel by pixel, enlarged by an integer factor; rows of a table are drawn as heat
maps, one row of the map for each row of the data.
"""

from .curves import compare, loss
from .draw import available, require, save
from .plane import interpolate, latent, manifold, traverse
from .rows import grid, reconstructions

__all__ = [
    "available",
    "compare",
    "grid",
    "interpolate",
    "latent",
    "loss",
    "manifold",
    "reconstructions",
    "require",
    "save",
    "traverse",
]
