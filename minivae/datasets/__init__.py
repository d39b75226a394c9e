"""datasets: read files of rows, scale them, and choose a likelihood for them."""
