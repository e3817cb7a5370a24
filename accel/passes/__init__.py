"""Passes: pure functions Graph -> Graph, one file each; `pipeline` is the ordered list."""
