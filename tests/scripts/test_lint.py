"""The checks of scripts/lint that are the project's own find what they are for."""

import importlib
import sys

import pytest


@pytest.fixture
def library(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / "scripts/lib"))
    yield importlib.import_module
    for name in ("include_graph", "kernel_names"):
        sys.modules.pop(name, None)


def includes(path, *included):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f'#include "{each}"\n' for each in included))


@pytest.fixture
def layers(tmp_path):
    """A small tree in order: each layer with what it may include."""
    for folder in ("kernels", "baselines", "benchmarks", "python", "tests"):
        (tmp_path / folder).mkdir()
    includes(tmp_path / "kernels/core/view.h", "kernels/core/error.h")
    includes(tmp_path / "kernels/ptx/tma.cuh", "kernels/core/view.h")
    includes(tmp_path / "kernels/tile/ring.cuh", "kernels/ptx/tma.cuh", "kernels/core/view.h")
    includes(tmp_path / "kernels/mine/options.h")
    includes(tmp_path / "kernels/mine/mine.h", "kernels/core/view.h", "kernels/mine/options.h")
    with (tmp_path / "kernels/mine/mine.h").open("a") as file:
        file.write("static std::vector<tensor_spec> tensors(const problem&, element_type);\n")
    includes(tmp_path / "kernels/mine/fast.cu", "kernels/tile/ring.cuh", "kernels/mine/mine.h")
    includes(tmp_path / "kernels/mine/inside.h")
    includes(tmp_path / "kernels/other/other.cu", "kernels/ptx/tma.cuh")
    includes(tmp_path / "baselines/slow.cu", "kernels/mine/mine.h", "kernels/mine/options.h")
    includes(tmp_path / "benchmarks/harness/row.h", "kernels/core/view.h")
    includes(tmp_path / "benchmarks/check.cpp", "benchmarks/harness/row.h", "kernels/mine/mine.h")
    includes(tmp_path / "python/export/plan.h", "kernels/core/view.h", "benchmarks/harness/row.h")
    includes(tmp_path / "tests/mine_test.cu", "kernels/mine/fast.cuh", "benchmarks/check.h")
    return tmp_path


def test_layers_in_order_are_clean(library, layers):
    assert library("include_graph").check(layers) == []


@pytest.mark.parametrize(
    ("path", "included", "said"),
    [
        ("kernels/core/view.h", "kernels/ptx/tma.cuh", "core may include nothing beside itself"),
        ("kernels/core/view.h", "kernels/mine/mine.h", "core may include nothing beside itself"),
        ("kernels/ptx/tma.cuh", "kernels/tile/ring.cuh", "ptx may include core beside itself"),
        ("kernels/tile/ring.cuh", "kernels/mine/mine.h", "not operation"),
        ("kernels/mine/fast.cu", "kernels/other/other.h", "mine includes its sibling other"),
        ("kernels/mine/fast.cu", "baselines/slow.cuh", "not baselines"),
        ("kernels/mine/fast.cu", "benchmarks/harness/row.h", "not harness"),
        ("baselines/slow.cu", "kernels/tile/ring.cuh", "not tile"),
        ("baselines/slow.cu", "kernels/mine/inside.h", "which this is not"),
        ("baselines/slow.cu", "benchmarks/check.h", "not benchmarks"),
        ("benchmarks/harness/row.h", "kernels/mine/mine.h", "not operation"),
        ("benchmarks/harness/row.h", "benchmarks/check.h", "not benchmarks"),
        ("benchmarks/check.cpp", "tests/support/help.h", "not tests"),
        ("python/export/plan.h", "kernels/mine/mine.h", "not operation"),
    ],
)
def test_an_arrow_upwards_is_named(library, layers, run, root, path, included, said):
    with (layers / path).open("a") as file:
        file.write(f'  # include "{included}"\n')
    (problem,) = library("include_graph").check(layers)
    assert problem.startswith(f"{path} includes {included}: ")
    assert said in problem
    done = run(sys.executable, root / "scripts/lib/include_graph.py", layers)
    assert (done.returncode, done.stdout) == (1, problem + "\n")


GOOD_NAMES = """
// __global__ void Wrong() in a comment
template <class T, typename Tile = padded<T>, int Rows = 4, std::same_as<const T> Const, bool>
__global__ void __launch_bounds__(max_threads(2)) add_kernel(T* out) {}
struct ring_buffer { };
enum class feature_side { query };
template <>
__device__ inline float weight_of(int row) { return [&]<bool Masked>() { return 1; }(); }
"""


def test_names_by_the_rules_are_clean(library):
    assert library("kernel_names").bad_names(GOOD_NAMES) == []


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("add_kernel", "add", "kernel add must end in _kernel"),
        ("add_kernel", "addKernel_kernel", "kernel addKernel_kernel must be snake_case"),
        ("ring_buffer", "RingBuffer", "type RingBuffer must be snake_case"),
        ("feature_side", "featureSide", "type featureSide must be snake_case"),
        ("weight_of", "weightOf", "function weightOf must be snake_case"),
        ("class T,", "class element_t,", "template parameter element_t must be CamelCase"),
        ("typename Tile", "typename tile", "template parameter tile must be CamelCase"),
        ("int Rows", "int rows", "template parameter rows must be CamelCase"),
        ("const T> Const", "const T> constant", "template parameter constant must be CamelCase"),
        ("bool Masked", "bool masked", "template parameter masked must be CamelCase"),
    ],
)
def test_a_name_against_the_rules_is_found(library, run, root, tmp_path, good, bad, said):
    assert good in GOOD_NAMES
    source = tmp_path / "source.cu"
    source.write_text(GOOD_NAMES.replace(good, bad))
    done = run(sys.executable, root / "scripts/lib/kernel_names.py", source)
    assert done.returncode == 1
    assert said in done.stdout
    assert done.stdout.startswith(f"{source}:")


@pytest.mark.parametrize("name", ["source.h", "source.cpp"])
def test_host_code_is_read_for_template_parameters_alone(run, root, tmp_path, name):
    source = tmp_path / name
    source.write_text("template <int Rows>\nclass Suite {};\n")
    assert run(sys.executable, root / "scripts/lib/kernel_names.py", source).returncode == 0
    source.write_text("class Suite {};\ntemplate <int rows>\nclass Other {};\n")
    done = run(sys.executable, root / "scripts/lib/kernel_names.py", source)
    assert done.returncode == 1
    assert done.stdout == f"{source}:2: template parameter rows must be CamelCase\n"


GOOD_TAGS = """
/// Adds.
/// Called by: one thread
__device__ inline int add(int a, int b) { return a + b; }
struct ring {
  /// Moves on. Called by: one warp
  template <class T>
  __device__ void advance(T) {}  // __device__
};
"""


@pytest.mark.parametrize("folder", ["ptx", "tile"])
@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("/// Called by: one thread\n", ""),
        ("one thread", "the thread"),
        ("one warp\n", "one warp or two\n"),
        ("one warp\n", "one warp\n\n"),
    ],
)
def test_a_device_function_without_its_tag_is_found(run, root, tmp_path, folder, good, bad):
    source = tmp_path / "kernels" / folder / "source.cuh"
    source.parent.mkdir(parents=True)
    source.write_text(GOOD_TAGS)
    assert run(sys.executable, root / "scripts/lib/kernel_names.py", source).returncode == 0
    assert good in GOOD_TAGS
    source.write_text(GOOD_TAGS.replace(good, bad))
    done = run(sys.executable, root / "scripts/lib/kernel_names.py", source)
    assert done.returncode == 1
    assert "device function without its tag" in done.stdout
