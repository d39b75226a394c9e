"""minivae.bench: what `minivae bench` and the benchmarks of `bench/` time, and how."""
