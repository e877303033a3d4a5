"""For Python scripts that need more than the standard library."""

import os
import pathlib
import sys

_VENV = pathlib.Path(__file__).resolve().parents[2] / ".venv"


def rerun_in_venv(missing: ImportError) -> None:
    """Start over with .venv's Python where that may help; otherwise end, saying what is missing."""
    python = _VENV / "bin" / "python"
    if python.exists() and pathlib.Path(sys.prefix) != _VENV:
        os.execv(python, [str(python), *sys.argv])
    name = pathlib.Path(sys.argv[0]).name
    sys.exit(f"{name}: {missing.name} is missing; scripts/bench and scripts/test put it into .venv")
