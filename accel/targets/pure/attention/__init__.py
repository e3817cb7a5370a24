"""Attention and its gradients in kernels that never hold the weights."""
