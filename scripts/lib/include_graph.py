"""Whether every #include of the tree follows its layers; one line for each that does not.

usage: include_graph.py [ROOT]

Exit status: 0 clean, 1 not.
"""

import pathlib
import re
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
# The member by which a header of kernels/<operation> describes an operation.
DESCRIPTION = re.compile(r"std::vector<tensor_spec> tensors\(")
# Vector code for the CPU that ours and the baselines share, as they share core/cpu_simd.h.
SHARED = {"kernels/based/cpu_taylor.h"}
SUFFIXES = {".h", ".cuh", ".cpp", ".cu"}
FOUNDATIONS = ("core", "ptx", "tile")
# Of kernels/, the layer above the operations.
MODELS = "models"

# What a layer may include beside itself. "description": headers that describe an operation, and
# what these include. "operation": all of one's own folder.
ALLOWED = {
    "core": set(),
    "ptx": {"core"},
    "tile": {"core", "ptx"},
    "operation": {"core", "ptx", "tile"},
    MODELS: {"core", "ptx", "tile", "description"},
    "baselines": {"core", "ptx", "description"},
    "harness": {"core", "ptx"},
    "benchmarks": {"core", "ptx", "harness", "description", "baselines"},
    "python": {"core", "harness", MODELS},
    "tests": {"core", "ptx", "tile", "harness", "description", "operation", "baselines"}
    | {"benchmarks", MODELS},
}


def layer_of(path):
    """The layer of a file, a path relative to the root; None outside the layers."""
    top, *rest = pathlib.PurePosixPath(path).parts
    if top == "kernels" and len(rest) > 1:
        return rest[0] if rest[0] in (*FOUNDATIONS, MODELS) else "operation"
    if top == "benchmarks" and rest[0] == "harness":
        return "harness"
    return top if top in ("baselines", "benchmarks", "python", "tests") else None


def folder_of(path):
    """kernels/based/... -> based."""
    return pathlib.PurePosixPath(path).parts[1]


def descriptions(includes, texts):
    """The headers that describe operations, and all in kernels/ that these include."""
    found = {path for path, text in texts.items() if DESCRIPTION.search(text)}
    described = ("operation", MODELS)
    found = {path for path in found if layer_of(path) in described and path.endswith(".h")}
    queue = list(found)
    while queue:
        for included in includes.get(queue.pop(), ()):
            if layer_of(included) in described and included not in found:
                found.add(included)
                queue.append(included)
    return found


def problem(path, included, described):
    """Why `path` may not include `included`; None where it may."""
    own, other = layer_of(path), layer_of(included)
    if other is None:
        return None  # generated, or of a library
    if own == "operation" and other == "operation":
        if folder_of(path) == folder_of(included):
            return None
        return f"operation {folder_of(path)} includes its sibling {folder_of(included)}"
    if own == other or other in ALLOWED[own]:
        return None
    if other in ("operation", MODELS) and "description" in ALLOWED[own]:
        if included in described | SHARED:
            return None
        return f"{own} may include headers that describe an operation, which this is not"
    names = ", ".join(sorted(ALLOWED[own])) or "nothing"
    return f"{own} may include {names} beside itself, not {other}"


def check(root):
    """One line for each bad #include, in the order of the files."""
    folders = ("kernels", "baselines", "benchmarks", "python", "tests")
    files = [
        file
        for folder in folders
        for file in sorted((root / folder).rglob("*"))
        if file.suffix in SUFFIXES
    ]
    texts = {str(file.relative_to(root)): file.read_text(encoding="utf-8") for file in files}
    includes = {path: INCLUDE.findall(text) for path, text in texts.items()}
    described = descriptions(includes, texts)
    return [
        f"{path} includes {included}: {reason}"
        for path in texts
        if layer_of(path) is not None
        for included in includes[path]
        if (reason := problem(path, included, described)) is not None
    ]


def main():
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2]
    problems = check(root)
    for line in problems:
        print(line)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
