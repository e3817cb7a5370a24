"""The targets: reference (NumPy, the definition), pure (native kernels), torch."""
