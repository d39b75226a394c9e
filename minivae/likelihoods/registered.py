"""registered: likelihoods of users' own, added to the table at run time."""

from __future__ import annotations

import re

from .. import kernels
from ..errors import UsageError
from .base import LIKELIHOODS, Likelihood

OPS: dict[str, str] = {}  # the names of users' likelihoods → those of their ops


def register_likelihood(name: str, cls: type[Likelihood], op: kernels.Op) -> None:
    """Add a likelihood of your own: `mv.VAE(likelihood=name)`, `--likelihood name`, gradcheck and traces then know it.

    name   lower-case letters, digits and hyphens, such as "student-t"; cls.name is the same
    cls    a `minivae.likelihoods.Likelihood`; it calls `self.backend.ops.<name>`, with _ for each hyphen
    op     a `minivae.kernels.Op`; without a CUDA kernel (None) a GPU runs its reference, and says so once
    A model's file holds the name alone: register it, or give its file to --plugin, before loading one. Registering a
    name again replaces it. Raises UsageError for a name of minivae's own.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UsageError(f"likelihood {name!r}: expected lower-case letters, digits and hyphens, such as 'student-t'")
    op_name = name.replace("-", "_")
    if name not in OPS and (name in LIKELIHOODS or op_name in kernels.op_names()):
        raise UsageError(f"likelihood {name!r}: minivae has one of that name; choose another")
    if not (isinstance(cls, type) and issubclass(cls, Likelihood)):
        raise UsageError(f"likelihood {name!r}: expected a subclass of minivae.likelihoods.Likelihood, and got {cls!r}")
    if getattr(cls, "name", None) != name:
        raise UsageError(f"likelihood {name!r}: expected {cls.__name__}.name to be the same name")
    if not isinstance(op, kernels.Op):
        raise UsageError(f"likelihood {name!r}: expected a minivae.kernels.Op, and got {op!r}")
    kernels.register(op_name, op)
    for of_its_own in ("forward_only", "takes_nonzeros"):  # of its nll_and_grad, whatever class it builds on
        setattr(cls, of_its_own, vars(cls).get(of_its_own, False))
    LIKELIHOODS[name], OPS[name] = cls, op_name


def unregister_likelihood(name: str) -> None:
    """Forget a likelihood that `register_likelihood` added."""
    kernels.unregister(OPS.pop(name))
    del LIKELIHOODS[name]
