"""`python -m winnow`, which does what the command `winnow` does."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        # The working directory: a folder there, such as the `wandb/` of a run, must not take the place of a package.
        del sys.path[0]
    from winnow.cli import main

    main()
