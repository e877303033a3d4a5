"""What Python writes is whole or not there; no device, fifo or link is replaced."""

import os
import stat
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from plots.files import UsageError, write_whole


def new_text(partial):
    partial.write_text("new")


def test_behind_a_link_is_the_file_that_it_names(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link"
    link.symlink_to("elsewhere/target")  # not there yet
    for _ in range(2):
        write_whole(link, new_text)
        assert link.is_symlink()
        assert (tmp_path / "elsewhere/target").read_text() == "new"
        (tmp_path / "elsewhere/target").write_text("old")


def test_a_fifo_is_refused(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(UsageError, match="is no regular file"):
        write_whole(fifo, new_text)
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_a_writer_that_fails_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fails(partial):
        partial.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_whole(path, fails)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
