"""Convolutions and their gradients: products whose operands are found through tables."""
