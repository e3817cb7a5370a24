"""accel beside other libraries: the same workloads, checked first, timed in turns."""
