"""`python -m plots ...`."""

import os
import sys


def run() -> int:
    """Exit with 2, as for bad usage, where a package is missing or the output cannot be written:
    1 says that `compare` found a regression."""
    try:
        from plots.cli import main
    except ModuleNotFoundError as error:
        if error.name.partition(".")[0] == "plots":
            raise
        print(f"plots: {error}; pip install -r plots/requirements.txt", file=sys.stderr)
        return 2
    try:
        try:
            return main(sys.argv[1:])
        finally:
            sys.stdout.flush()
    except OSError as error:
        print(f"plots: {error.filename or 'standard output'}: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the exit flushes again
        return 2


sys.exit(run())
