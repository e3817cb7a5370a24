"""Calls without Python in between: the emitted entry that runs executables."""
