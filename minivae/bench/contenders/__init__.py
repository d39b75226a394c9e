"""contenders: PyTorch and JAX in the races. A race imports each of these files only in that contender's own process."""
