"""Whether sources keep the rules that clang-tidy cannot check in them: names, tags.

usage: kernel_names.py FILE...

Template parameters, types and values alike, are CamelCase. In CUDA sources functions and types are
snake_case, and kernels end in _kernel. In kernels/ptx and kernels/tile the comment above a device
function ends with who calls it: one thread, one warp, one warpgroup or one block. One line for each
breach; exit status: 0 clean, 1 not.
"""

import pathlib
import re
import sys

COMMENT_OR_TEXT = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)
# A word may be a product of matrices by their letters, as in mma_ABt.
SNAKE_CASE = re.compile(r"[a-z][a-z0-9]*(?:_+(?:[a-z0-9]+|(?:[A-D]t?){1,2}))*_?$")
CAMEL_CASE = re.compile(r"[A-Z][A-Za-z0-9]*$")

LAUNCH_BOUNDS = r"__(?:launch_bounds|maxnreg)__\s*\((?:[^()]|\([^()]*\))*\)"
KERNEL = re.compile(rf"__global__\s+(?:(?:{LAUNCH_BOUNDS}|static|void)\s+)+(\w+)\s*\(")
TYPE = re.compile(
    r"\b(?:(?:struct|class|enum(?:\s+class)?)\s+(\w+)\s*(?:final\s*)?[{:]|concept\s+(\w+)\s*=)"
)
# A return type, a name, parameters and a body; no macro, no keyword of the language or compiler.
FUNCTION = re.compile(
    r"^[ \t]*(?!else\b|return\b)(?:[\w:<>,&*]+[ \t]+)+[&*]?"
    r"(?!(?:if|for|while|switch|operator)\b|__|[A-Z0-9_]+\()(\w+)"
    r"\((?:[^;{}]|\{\})*\)\s*(?:const\s*)?(?:noexcept\s*)?(?:requires[^;{}]*)?\{",
    re.MULTILINE,
)
# Where parameters of a template or of a generic lambda begin; "template <>" has none.
PARAMETERS = re.compile(r"(?:\btemplate\s*|\])<(?=[\w:])")
# A parameter's name stands after its type, without which it has none: "class... Args", "int N".
PARAMETER = re.compile(r"[\w>*&.]\s+([A-Za-z_]\w*)$")

# What may stand between a device function's comment and its __device__.
TEMPLATE = re.compile(r"\s*(?:template\b|requires\b)")
TAG = re.compile(r"Called by: one (?:thread|warp|warpgroup|block)$")


def blanked(match):
    """As many lines as the text had, without its letters."""
    return re.sub(r"[^\n]", " ", match.group())


def template_parameters(code):
    """(position, name) of each template parameter that has a name."""
    for match in PARAMETERS.finditer(code):
        depth, begin, end = 1, match.end(), match.end()
        while depth and end < len(code):
            character = code[end]
            if depth == 1 and character in ",>":
                named = PARAMETER.search(code[begin:end].split("=")[0].rstrip())
                if named:
                    yield begin, named.group(1)
                begin = end + 1
            depth += {"<": 1, "(": 1, ">": -1, ")": -1}.get(character, 0)
            end += 1


def bad_parameters(text):
    """(line, message) of each template parameter in a source that breaks the rule."""
    code = COMMENT_OR_TEXT.sub(blanked, text)
    return [
        (code.count("\n", 0, position) + 1, f"template parameter {name} must be CamelCase")
        for position, name in template_parameters(code)
        if not CAMEL_CASE.match(name)
    ]


def bad_names(text):
    """(line, message) of each name in a CUDA source that breaks a rule."""
    code = COMMENT_OR_TEXT.sub(blanked, text)
    found = bad_parameters(text)

    def look(pattern, rule, message):
        for match in pattern.finditer(code):
            name = next(filter(None, match.groups()))
            if not rule(name):
                line = code.count("\n", 0, match.start()) + 1
                found.append((line, message.format(name)))

    kernels = code.count("__global__")
    if kernels != len(KERNEL.findall(code)):
        found.append((1, f"of {kernels} kernels only {len(KERNEL.findall(code))} can be read"))
    look(KERNEL, lambda name: name.endswith("_kernel"), "kernel {} must end in _kernel")
    look(KERNEL, SNAKE_CASE.match, "kernel {} must be snake_case")
    look(TYPE, SNAKE_CASE.match, "type {} must be snake_case")
    look(FUNCTION, SNAKE_CASE.match, "function {} must be snake_case")
    return sorted(set(found))


def untagged(text):
    """(line, message) of each device function whose comment does not end with who calls it."""
    lines = text.splitlines()
    found = []
    for number, line in enumerate(lines):
        if "__device__" not in line.partition("//")[0]:
            continue
        above = number - 1
        while above >= 0 and TEMPLATE.match(lines[above]):
            above -= 1
        comment = lines[above].strip() if above >= 0 else ""
        if not (comment.startswith("///") and TAG.search(comment)):
            found.append((number + 1, "device function without its tag: /// Called by: one ..."))
    return found


def breaches(path):
    """(line, message) of all that breaks a rule in a source."""
    text = path.read_text(encoding="utf-8")
    if path.suffix not in (".cu", ".cuh"):
        return bad_parameters(text)
    *_, above, kernels, layer = ("", "", *path.resolve().parent.parts)
    tagged = above != "tests" and kernels == "kernels" and layer in ("ptx", "tile")
    return sorted(bad_names(text) + (untagged(text) if tagged else []))


def main():
    status = 0
    for path in sys.argv[1:]:
        for line, message in breaches(pathlib.Path(path)):
            print(f"{path}:{line}: {message}")
            status = 1
    sys.exit(status)


if __name__ == "__main__":
    main()
