"""Calls and recording in machine code: the objects that it reads, and where it takes over."""
