"""sklearn: a VAE as estimators of scikit-learn: `VAE`, a transformer and density, and `VAEDetector`, for outliers.

They take and give the data's units. Needs scikit-learn (extra `sklearn`); `import minivae` does not load it.
"""

from __future__ import annotations

from ..errors import UsageError
from ..hints import how_to_install

try:
    from sklearn.utils.validation import validate_data  # noqa: F401  since 1.6, the lowest version that serves
except ImportError as error:
    raise UsageError(
        f"minivae.sklearn needs scikit-learn 1.6 or later ({error}): {how_to_install('sklearn')}"
    ) from None

from .detector import VAEDetector
from .vae import VAE

__all__ = ["VAE", "VAEDetector"]
