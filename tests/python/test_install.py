"""The wheel in other environments; scripts/test builds it and says where it is."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def readme_lines():
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## From Python")[1]
    return section.split("```python\n")[1].split("```")[0]


def other_pythons():
    """Interpreters of other versions than this one, 3.11 or later, that start."""
    names = [f"python3.{minor}" for minor in range(11, 15) if minor != sys.version_info.minor]
    folders = list(pathlib.Path.home().glob(".pyenv/versions/*/bin"))
    found = [shutil.which(name) for name in names]
    found += [str(folder / name) for name in names for folder in folders]
    return [path for path in found if path and starts(path)]


def starts(path):
    try:
        return subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme():
    """In an environment with the package and NumPy alone, on the machine's CPU."""
    run(sys.executable, "-c", readme_lines())


def test_another_python(tmp_path):
    wheel = os.environ.get("BASED_WHEEL")
    if not wheel:
        pytest.skip("BASED_WHEEL names no wheel; scripts/test builds one")
    pythons = other_pythons()
    if not pythons:
        pytest.skip("no Python of another version than this one")
    run(pythons[0], "-m", "venv", tmp_path)
    python = tmp_path / "bin/python"
    run(python, "-m", "pip", "install", "--quiet", wheel, "numpy")
    run(python, "-c", readme_lines())
