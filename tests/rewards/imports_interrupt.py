"""A module whose import looks like Ctrl-C."""

raise KeyboardInterrupt
