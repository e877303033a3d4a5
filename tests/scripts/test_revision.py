"""The revision names the sources: no other repository's commit, never one name for two trees."""

import os
import shutil
import subprocess

import pytest

GIT_ENV = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    **{f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


@pytest.fixture
def sources(root, tmp_path):
    """A folder of sources inside another git repository: an archive unpacked there."""
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "another project's")
    folder = tmp_path / "sources"
    for name in ("kernels", "baselines", "benchmarks", "scripts/cmake"):
        (folder / name).mkdir(parents=True)
    (folder / "CMakeLists.txt").write_text("# one\n")
    (folder / "scripts/lib").mkdir()
    shutil.copy(root / "scripts/lib/revision.sh", folder / "scripts/lib")
    return folder


def git(folder, *arguments):
    command = ["git", "-C", folder, *arguments]
    done = subprocess.run(
        command, env=os.environ | GIT_ENV, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def revision(folder, **env):
    command = ["sh", folder / "scripts/lib/revision.sh", folder]
    done = subprocess.run(
        command, env=os.environ | GIT_ENV | env, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit_all(folder):
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "sources")
    return git(folder, "rev-parse", "--short=12", "HEAD")


def test_an_archive_has_no_commit_of_the_repository_around_it(sources):
    first = revision(sources)
    assert first.startswith("tree-")
    (sources / "CMakeLists.txt").write_text("# two\n")
    second = revision(sources)
    assert second.startswith("tree-")
    assert first != second
    (sources / "CMakeLists.txt").write_text("# one\n")
    assert revision(sources) == first


def test_a_clean_checkout_is_its_commit(sources):
    commit = commit_all(sources)
    assert revision(sources) == commit
    link = sources.parent / "link"
    link.symlink_to(sources)
    assert revision(link) == commit
    assert revision(sources, GIT_DIR=str(sources.parent / ".git")) == commit  # as in a hook


def test_two_changes_of_one_commit_are_two_revisions(sources):
    commit = commit_all(sources)
    found = set()
    for text in ("# changed\n", "# changed again\n"):
        (sources / "CMakeLists.txt").write_text(text)
        found.add(revision(sources))
    assert len(found) == 2
    assert all(name.startswith(f"{commit}-dirty-") for name in found)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_checkout_of_another_user_is_its_commit(sources):
    commit = commit_all(sources)
    for path in (sources, *sources.rglob("*")):
        os.chown(path, 12345, 12345)
    assert revision(sources) == commit


def test_without_git_two_trees_are_two_revisions(sources, tmp_path):
    commit_all(sources)
    (tmp_path / "bin").mkdir()
    for tool in ("sh", "find", "sha256sum", "sort", "cut", "dirname"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    assert revision(sources, PATH=str(tmp_path / "bin")).startswith("tree-")
