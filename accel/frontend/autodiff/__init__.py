"""Gradients: of recorded Values, and as transforms of functions."""
