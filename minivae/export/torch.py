"""torch: a model as a PyTorch module, for those who go on there. PyTorch is imported when it is asked for."""

from __future__ import annotations

from typing import Any

from ..errors import UsageError
from ..hints import how_to_install
from ..model import Model
from .graph import check_inputs


def module(vae: Model) -> Any:
    """A `torch.nn.Module` with a copy of the model's parameters (`torch_module.py`), on the CPU."""
    check_inputs(vae)
    try:
        import torch  # noqa: F401
    except ImportError:
        raise UsageError(f"to_torch needs the package torch: {how_to_install('torch')}") from None
    from .torch_module import VAE

    return VAE(vae)
