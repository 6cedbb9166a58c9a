"""From a response to a verdict to a number. Importing this package imports neither torch nor sympy: workers do the latter."""
