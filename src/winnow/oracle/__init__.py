"""Exact oracle: bias and variance of the product's gradient estimators where every response can be enumerated."""
