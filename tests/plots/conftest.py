"""Lets the tests import the package from the repository's root and the builder beside them."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]
