"""trace: one pass through a model, step by step."""
