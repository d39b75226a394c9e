"""ours: the checker's targets and mutants of minivae itself."""
