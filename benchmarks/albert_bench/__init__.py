"""Benchmarks of the engine against other inference libraries: ``albert-bench ARTIFACT``."""
