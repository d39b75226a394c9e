"""trace: record one forward and backward pass of a model, step by step."""
