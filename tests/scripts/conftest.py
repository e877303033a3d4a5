"""Runs the scripts: as they are, or in a tree of their own where stubs stand for the machine."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def execute(command, cwd, env=None, **options):
    """The finished process, its output as text."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


@pytest.fixture
def root():
    return ROOT


@pytest.fixture
def run(tmp_path):
    """run(program, arguments..., env=...), in an empty folder."""
    return lambda program, *arguments, **options: execute(
        (program, *arguments), tmp_path, **options
    )


@pytest.fixture
def script():
    return lambda name: ROOT / "scripts" / name


@pytest.fixture(scope="session")
def binary():
    """The path of a built binary: of BASED_BUILD_DIR, where scripts/test builds, or of build/."""

    def find(name):
        path = Path(os.environ.get("BASED_BUILD_DIR", ROOT / "build")) / name
        if not path.exists():
            pytest.skip(f"{path} is not built")
        return path

    return find


class Tree:
    """A copy of scripts/, a stub for .venv's python, and a folder of stubs first on PATH."""

    def __init__(self, path):
        self.path = path
        self.stubs = path / "stubs"
        self.calls = path / "calls"  # a line a call of a stub, where the stub writes one
        shutil.copytree(ROOT / "scripts", path / "scripts")
        (path / "plots").mkdir()
        (path / "plots" / "requirements.txt").write_text("")
        self.stub(".venv/bin/python", f'echo "python $*" >>{self.calls}')

    def stub(self, name, body):
        """A program of this name (in stubs/, or at a path below the tree) with this bash body."""
        file = self.path / name if "/" in name else self.stubs / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/bash\n{body}\n")
        file.chmod(0o755)
        return file

    def stub_build_without_gpu(self):
        """What a build takes is there and does nothing; there is neither nvcc nor a GPU."""
        with (self.path / "scripts/lib/build.sh").open("a") as library:
            library.write("find_nvcc() { echo; }\n")
        self.stub("dpkg-query", "echo 'install ok installed'")
        self.stub("nvidia-smi", "exit 9")
        self.stub(
            "cmake",
            """[[ $1 != --version ]] || { echo cmake version 3.30.0; exit; }
touch build/build.ninja
[[ $1 != --fresh ]] || echo "CMAKE_CUDA_COMPILER:STRING=NOTFOUND" >build/CMakeCache.txt""",
        )

    @property
    def env(self):
        return {"PATH": f"{self.stubs}:{os.environ['PATH']}", "CUDA_HOME": "/nonexistent"}

    def run(self, *command, **options):
        return execute(command, self.path, self.env, **options)

    def shell(self, code, **options):
        """Runs code after sourcing the scripts' library."""
        return self.run("bash", "-c", f"source scripts/lib/build.sh\n{code}", **options)

    def carry_away(self, program):
        """Moves a built program into a build folder elsewhere, where it is alone, takes .venv away,
        and lets nothing be set up or built; the folder, for --build-dir."""
        folder = self.path / "elsewhere"
        folder.mkdir()
        (self.path / "build" / program).rename(folder / program)
        (self.path / ".venv/bin/python").unlink()
        for name in ("cmake", "dpkg-query"):
            self.stub(name, f'echo "{name} $*" >>{self.calls}; exit 9')
        return folder

    def set_up_or_built(self):
        return [line for line in self.logged() if line.split()[0] in ("cmake", "dpkg-query")]

    def logged(self):
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path / "tree")
