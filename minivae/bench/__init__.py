"""minivae.bench: the races of `minivae bench`, and the work that the benchmarks of `bench/` time."""
