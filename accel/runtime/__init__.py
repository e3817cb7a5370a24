"""The runtime: settings, compiling graphs to executables, running them."""
