"""What users touch: Tensor, functions, compile, autograd."""
