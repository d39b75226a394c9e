"""distributed: one training or evaluation by many processes, started by MPI, with the bits of one process."""
