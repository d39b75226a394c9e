"""matmul: whose matrix products run. Not needed to understand a VAE: `np.dot` would do."""
