"""A module whose names cannot be looked up."""


def __getattr__(name):
    raise RuntimeError(f"no {name} here")
