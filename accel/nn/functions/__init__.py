"""Neural functions by subject; `accel.nn.functional` names them all."""
