"""optim: SGD, Adagrad, RMSprop, Adam, AdamW, each one fused pass over the flat buffers.

An optimiser owns its hyperparameters, its step count and its state: flat arrays laid out as the parameters are. Each
has a file here, and its update rule in the file of that name in `kernels/`; names and defaults are torch.optim's.
"""

from .adagrad import Adagrad
from .adam import Adam, AdamW
from .base import Optimizer, Updates
from .rmsprop import RMSprop
from .sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "Updates"]
