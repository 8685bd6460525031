"""The laboratory: reproductions, benchmarks and the demo. Nothing else in the package imports it."""
