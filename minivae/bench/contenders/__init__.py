"""contenders: PyTorch and JAX in the races. Each of these files is imported only in its contender's own process."""
