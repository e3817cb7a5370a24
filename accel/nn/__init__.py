"""Models: `Module`, layers, losses, their functions and their initial values."""

from . import functional, init
from .activations import *
from .activations import __all__ as _activations
from .attention import MultiheadAttention
from .containers import ModuleDict, ModuleList, Sequential
from .convolution import *
from .convolution import __all__ as _convolution
from .images import *
from .images import __all__ as _images
from .layers import *
from .layers import __all__ as _layers
from .losses import *
from .losses import __all__ as _losses
from .module import Module
from .normalization import *
from .normalization import __all__ as _normalization
from .parameter import Parameter
from .pooling import *
from .pooling import __all__ as _pooling
from .transformer import *
from .transformer import __all__ as _transformer

__all__ = [
    "Module", "ModuleDict", "ModuleList", "MultiheadAttention", "Parameter", "Sequential",
    "functional", "init",
]  # fmt: skip
__all__ += [*_activations, *_convolution, *_images, *_layers, *_losses, *_normalization, *_pooling]
__all__ += _transformer
