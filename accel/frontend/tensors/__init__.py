"""Tensors and what they stand for: Values, their recording, their evaluation."""
