"""The originals that Python can call, a file each: what must import, and how it is called on an
operation's tensors (python/based_bench/harness.py says what a call is). scripts/peers measures the
ORIGINALS of every file in this folder, in the order of the files' names.
"""

import importlib
import importlib.metadata
import pkgutil


def all_originals() -> list:
    found = []
    for each in pkgutil.iter_modules(__path__):
        found += importlib.import_module(f"{__name__}.{each.name}").ORIGINALS
    return found


def version_of(package: str):
    """A function that says which version of a package is installed."""

    def version() -> str:
        try:
            return f"{package} {importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:
            return ""

    return version


def heads_last(given: dict, names: str) -> list:
    """Tensors [B, H, N, D] as contiguous [B, N, H, D], which many libraries take; copied before
    anything is timed."""
    return [given[name].transpose(1, 2).contiguous() for name in names]


def o_of_heads_last(result) -> dict:
    return {"o": result.transpose(1, 2)}
