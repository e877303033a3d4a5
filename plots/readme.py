"""Rewrites the measured tables of Markdown files, between their markers:

<!-- table: NAME -->
(written here)
<!-- end table -->
"""

import re
from pathlib import Path

from plots import tables
from plots.files import UsageError, write_whole

_BEGIN = re.compile(r"^<!-- table: (.*?) -->$", re.MULTILINE)
_END = "<!-- end table -->"


def marked_files(root: Path) -> list[Path]:
    """README.md and those in plots/ and under kernels/ that have markers."""
    candidates = [root / "README.md", root / "plots" / "README.md"]
    candidates += sorted((root / "kernels").rglob("README.md"))
    return [path for path in candidates if path.is_file() and _BEGIN.search(_read(path))]


def update(files: list[Path], folder: Path, check: bool) -> list[Path]:
    """Rewrite the tables of `files` from the results in `folder`, or with `check` only compare; the
    files that differ."""
    measured = tables.load(folder)
    differing = []
    for path in files:
        text = _read(path)
        wanted = rewritten(text, measured, str(path))
        if wanted == text:
            continue
        differing.append(path)
        if not check:
            write_whole(path, lambda partial, text=wanted: partial.write_text(text, "utf-8"))
    return differing


def rewritten(text: str, measured: tables.Measured | None, where: str) -> str:
    """`text` with every table between its markers as `measured` gives it, all else as it is."""
    parts, at = [], 0
    for begin in _BEGIN.finditer(text):
        name = begin[1]
        if name not in tables.TABLES:
            known = ", ".join(tables.TABLES)
            raise UsageError(f"{where}: has a table {name!r}; there are {known}")
        end = text.find(_END, begin.end())
        following = _BEGIN.search(text, begin.end())
        if end < 0 or (following and following.start() < end):
            raise UsageError(f"{where}: table {name!r} has no {_END!r}")
        table = tables.NOT_MEASURED if measured is None else tables.TABLES[name](measured)
        parts += [text[at : begin.end()], f"\n{table}\n"]
        at = end
    return "".join([*parts, text[at:]])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from None
