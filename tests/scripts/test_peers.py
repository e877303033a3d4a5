"""scripts/peers, with a stub for the package's harness: what it measures, and what it says."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What scripts/peers needs of the package, where only `imports` can be imported.
HARNESS = """
import json, sys
from dataclasses import dataclass, field

@dataclass(frozen=True)
class Original:
    name: str
    operation: str
    prepare: object
    module: str = "torch"
    install: str = "install it"
    version: object = ""
    summary: str = ""
    takes: frozenset = frozenset()
    cannot: object = None
    tolerance: float = 0.0
    form: str = ""
    device: str = "cuda"
    type: str = "bf16"
    on_default_stream: bool = False

    def missing(self):
        return None if self.module in {imports} else f"{{self.module}} does not import"

def add(original):
    if original.operation in {lacking}:
        raise ValueError(f"there is no operation '{{original.operation}}'")
    print("add", original.operation, original.name)

def run(arguments):
    print("run", *arguments)
    return 1
"""


@pytest.fixture
def peers(run, tmp_path):
    """peers(arguments..., imports=, lacking=): the finished process."""

    def call(*arguments, imports=("torch",), lacking=()):
        package = tmp_path / "package" / "based_bench"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text("")
        (package / "harness.py").write_text(HARNESS.format(imports=imports, lacking=lacking))
        return run(
            sys.executable,
            ROOT / "scripts/peers",
            *arguments,
            env={"PYTHONPATH": str(package.parent)},
        )

    return call


def test_adds_what_imports_and_measures_it(peers):
    done = peers("--batch=4", "--benchmark_out=x.json")
    lines = done.stdout.splitlines()
    added = [line.split()[2] for line in lines if line.startswith("add")]
    assert {"torch_bmm", "pytorch_naive", "torch_sdpa_cudnn", "torch_einsum"} <= set(added)
    assert lines[-1] == f"run --implementation={','.join(added)} --batch=4 --benchmark_out=x.json"
    assert done.returncode == 1  # the harness's own
    assert "mamba2: mamba_ssm.ops.triton.ssd_combined does not import; pip install" in done.stderr


def test_measures_those_that_are_named(peers):
    done = peers("--peer", "torch_bmm,flash_attention_2")
    assert done.stdout.splitlines() == ["add decode torch_bmm", "run --implementation=torch_bmm"]


def test_a_filter_leaves_the_originals_of_its_operations(peers):
    done = peers("--benchmark_filter=^(decode|sliding_window)/", "--batch=1")
    added = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("add")]
    assert set(added) == {"decode", "sliding_window"}
    assert "mamba" not in done.stderr
    for operation in ("ssd", "model_decode"):  # of which nothing imports, or there is nothing
        done = peers(f"--benchmark_filter=^{operation}/", "--batch=1")
        assert (done.returncode, done.stdout) == (0, "")
        assert "nothing to measure" in done.stderr
    done = peers("--benchmark_filter=B:1/N:64", "--peer=torch_bmm")
    assert done.stdout.splitlines()[0] == "add decode torch_bmm"


def test_a_build_without_an_operation_is_said(peers):
    done = peers("--peer=torch_bmm,torch_einsum", lacking=("decode",))
    assert "torch_bmm: there is no operation 'decode'" in done.stderr
    assert done.stdout.splitlines()[-1] == "run --implementation=torch_einsum"


def test_lists_every_original_once(peers):
    done = peers("--list")
    assert done.returncode == 0
    assert "run" not in done.stdout
    names = [line.split(":")[0] for line in done.stderr.splitlines()]
    assert len(set(names)) == len(names)
    assert {"fast_transformers_273", "flash_attention_4", "fla_parallel_based", "mamba"} <= set(
        names
    )


def test_a_missing_original_is_named_and_not_fatal(peers):
    done = peers("--peer", "mamba", imports=())
    assert done.returncode == 0
    assert "nothing to measure" in done.stderr


def test_without_the_package_it_says_what_to_install(run):
    done = run(sys.executable, "-S", ROOT / "scripts/peers", "--batch=1")
    assert done.returncode == 0
    assert "nothing to measure: No module named 'based_bench'; pip install" in done.stderr


def test_bad_usage_of_peers(peers):
    done = peers("--peer", "nonsense")
    assert done.returncode == 2
    assert "'nonsense' is unknown; there are fast_transformers_273" in done.stderr
