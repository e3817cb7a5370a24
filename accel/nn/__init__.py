"""Models: `Module`, layers, losses, their functions and their initial values."""

from . import functional, init
from .activations import *
from .activations import __all__ as _activations
from .containers import ModuleDict, ModuleList, Sequential
from .layers import *
from .layers import __all__ as _layers
from .losses import *
from .losses import __all__ as _losses
from .module import Module
from .parameter import Parameter

__all__ = ["Module", "ModuleDict", "ModuleList", "Parameter", "Sequential", "functional", "init"]
__all__ += [*_activations, *_layers, *_losses]
