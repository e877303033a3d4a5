"""What scripts/lib does to a machine, on a machine of stubs."""

import os
import subprocess

import pytest

NOBODY = 65534
FMT_ALONE = "[[ ${!#} == libfmt-dev ]] && echo 'install ok installed'"

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@root_only
def test_packages_are_installed_where_root(tree):
    tree.stub("dpkg-query", FMT_ALONE)
    tree.stub("apt-get", f'echo "$@" >>{tree.calls}')
    done = tree.shell("ensure_packages libfmt-dev libgtest-dev libcli11-dev")
    assert done.returncode == 0, done.stderr
    update, install = tree.logged()
    assert update.split()[-1] == "update"
    assert install.endswith("install -y --no-install-recommends libgtest-dev libcli11-dev")


@root_only
def test_a_failed_installation_stops(tree):
    tree.stub("dpkg-query", "true")
    tree.stub("apt-get", "exit 100")
    done = tree.shell("ensure_packages libgtest-dev; echo went on")
    assert done.returncode == 1
    assert "apt-get could not install: libgtest-dev" in done.stderr
    assert "went on" not in done.stdout


def test_packages_are_named_where_nobody_may_install(tree):
    tree.stub("dpkg-query", "true")
    tree.stub("sudo", "exit 1")
    tree.stub("apt-get", f"echo called >>{tree.calls}")
    other_user = {}
    if os.geteuid() == 0:
        other_user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        for folder in tree.path.parents:  # pytest keeps its folders from other users
            if "pytest-" in str(folder):
                folder.chmod(0o755)
    done = tree.shell(
        "ensure_packages libgtest-dev libcli11-dev", stdin=subprocess.DEVNULL, **other_user
    )
    assert done.returncode == 1
    assert "apt-get install -y --no-install-recommends libgtest-dev libcli11-dev" in done.stderr
    assert tree.logged() == []


def test_nothing_is_installed_twice(tree):
    tree.stub("dpkg-query", "echo 'install ok installed'")
    tree.stub("apt-get", f"echo called >>{tree.calls}")
    done = tree.shell("ensure_packages libfmt-dev libgtest-dev")
    assert done.returncode == 0, done.stderr
    assert tree.logged() == []


def test_an_older_cmake_is_replaced_by_a_wheel(tree):
    tree.stub("cmake", "echo cmake version 3.22.1")
    done = tree.shell("ensure_cmake; echo $PATH")
    assert done.returncode == 0, done.stderr
    assert "cmake 3.22.1, want 3.25 or later" in done.stderr
    assert any("-m pip install" in call and "cmake==" in call for call in tree.logged())
    assert done.stdout.startswith(f"{tree.path}/.venv/bin:")


@pytest.mark.parametrize(
    ("version", "least", "enough"),
    [("3.25.1", "3.25", 0), ("3.25", "3.25", 0), ("3.9", "3.25", 1), ("4.0", "3.25", 0)],
)
def test_versions_are_compared_by_number(tree, version, least, enough):
    assert tree.shell(f"version_at_least {version} {least}").returncode == enough


def test_requirements_are_installed_when_they_change(tree):
    requirements = tree.path / "plots" / "requirements.txt"

    def installations():
        tree.calls.unlink(missing_ok=True)
        done = tree.shell("ensure_python plots/requirements.txt")
        assert done.returncode == 0, done.stderr
        return sum("pip install" in call for call in tree.logged())

    requirements.write_text("a==1\n")
    assert [installations(), installations()] == [1, 0]
    requirements.write_text("a==2\n")
    assert [installations(), installations()] == [1, 0]


def test_a_failed_requirement_is_tried_again(tree):
    tree.stub(".venv/bin/python", "exit 1")
    for _ in range(2):
        done = tree.shell("ensure_python plots/requirements.txt")
        assert done.returncode == 1
        assert "pip could not install plots/requirements.txt" in done.stderr


def test_cuda_wheels_get_a_toolkits_names(tree):
    toolkit = tree.path / "wheels" / "nvidia" / "cu13"
    tree.stub(".venv/bin/python", f"[[ $1 != -c ]] || echo {toolkit}")
    nvcc = tree.stub("wheels/nvidia/cu13/bin/nvcc", "true")
    (toolkit / "lib").mkdir()
    (toolkit / "lib" / "libcudart.so.13").write_text("")
    for _ in range(2):  # the second time finds the links there
        done = tree.shell("ensure_cuda_wheels; find_nvcc")
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str(nvcc)
    assert (toolkit / "lib64" / "libcudart.so").readlink().name == "libcudart.so.13"
