"""Optional packages: whether one is installed, and the line that says what to type where it is not."""

from importlib.util import find_spec

from winnow.errors import ConfigError


def require_package(module: str, words: str, extra: str) -> None:
    """Check that `module` can be imported, without importing it; the installation's `extra` brings it.

    Raises:
        ConfigError: it is not installed. The message begins with `words`, the setting that needs it.
    """
    if find_spec(module) is None:
        raise ConfigError(f"{words}: {module} is not installed; {install(extra)}")


def install(extra: str) -> str:
    """The end of a message: the command that installs an extra, for an installed Winnow and for a checkout."""
    return f"type pip install 'winnow-rl[{extra}]', or in a checkout pip install -e '.[{extra}]'"
