"""Hydra looks for launchers in this package."""
