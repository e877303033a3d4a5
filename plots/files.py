"""Errors for the user's eyes, and writes that leave a whole file or none."""

import os
from collections.abc import Callable
from pathlib import Path


class UsageError(Exception):
    """What the user gave cannot be used; the message is one line: the value and the remedy."""


def ready_folder(folder: Path) -> Path:
    """Return `folder`, made where only its last part is missing; UsageError where it cannot be."""
    try:
        folder.mkdir(exist_ok=True)
    except FileNotFoundError:
        raise UsageError(f"{folder}: its parent folder does not exist; create it first") from None
    except FileExistsError:
        raise UsageError(f"{folder}: is a file; name a folder to write to") from None
    except OSError as error:
        raise UsageError(f"{folder}: cannot be created ({error.strerror})") from None
    return folder


def refuse_input(path: Path | None, inputs: list[Path]) -> None:
    """UsageError where the file to be written, `path`, is one of those that are read."""
    for each in inputs if path is not None else []:
        if os.path.realpath(path) == os.path.realpath(each):
            raise UsageError(f"--out {path}: is one of the results to read; name another file")


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary neighbour of `path`, then rename: readers never see half.

    A symbolic link stays one: the file that it names is written. A device or fifo is refused.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise UsageError(f"{path}: is no regular file; name one to write to")
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        write(partial)
        partial.replace(target)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}); name another") from None
    finally:
        partial.unlink(missing_ok=True)
