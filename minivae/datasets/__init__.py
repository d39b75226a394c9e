"""datasets: reading files of rows, scaling them, and choosing a likelihood for them."""
