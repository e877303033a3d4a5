"""scripts/cmake/strict_ptxas refuses what ptxas only notes, on stand-ins for the compiler."""

import pytest

FINE = "ptxas info    : Used 128 registers, used 3 barriers"
REFUSED = [
    "ptxas info    : (C7508) Potential Performance Loss: 'setmaxnreg' ignored to maintain minimum",
    "ptxas info    : (C7510) Potential Performance Loss: wgmma instructions are serialized",
    "ptxas warning : Registers are spilled to local memory in function 'kernel', 8 bytes",
    "ptxas warning : Local memory used for function 'kernel', size 8 bytes",
]


@pytest.fixture
def compile_with(run, script, tmp_path):
    def compile_with_(note, status=0):
        compiler = tmp_path / "nvcc"
        compiler.write_text(f'#!/bin/sh\necho "{note}" >&2\nexit {status}\n')
        compiler.chmod(0o755)
        return run(script("cmake/strict_ptxas"), compiler, "-c", "kernel.cu")

    return compile_with_


def test_passes_what_is_fine(compile_with):
    done = compile_with(FINE)
    assert done.returncode == 0
    assert FINE in done.stderr


@pytest.mark.parametrize("note", REFUSED)
def test_refuses(compile_with, note):
    done = compile_with(note)
    assert done.returncode == 1
    assert note in done.stderr
    assert "refused" in done.stderr


def test_keeps_the_compilers_own_failure(compile_with):
    assert compile_with("error: no", status=2).returncode == 2
