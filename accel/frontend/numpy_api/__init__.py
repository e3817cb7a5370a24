"""NumPy's own functions on Tensors."""
