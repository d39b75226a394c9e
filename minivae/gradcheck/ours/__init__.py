"""ours: minivae's own targets for the checker, and the mutants that test the checker."""
