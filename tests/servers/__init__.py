"""Real and lying servers for the integration tests, the end-to-end tests and the benchmarks."""
