"""generate_vectors writes what based_check reads; what is wrong in a file is found and named."""

import struct

import pytest

NUMBERS_A_TOKEN = 160  # 16 + 16 + 64 + 64
OUTPUT_SHARE = slice(96, 160)  # of a token's numbers, o comes last


@pytest.fixture
def generate(run, script, tmp_path):
    def generate_(*arguments):
        path = tmp_path / "case.txt"
        done = run(script("generate_vectors"), *arguments, "--out", path)
        assert done.returncode == 0, done.stderr
        return path

    return generate_


@pytest.fixture
def check(run, binary):
    program = binary("based_check")
    return lambda *arguments: run(program, *arguments)


def numbers_of(path):
    """A case file's header lines and its numbers."""
    lines = path.read_text().splitlines()
    header = [line for line in lines if line.startswith("#")]
    return header, " ".join(lines[len(header) :]).split()


def rewrite(path, header, numbers):
    path.write_text("\n".join([*header, " ".join(numbers)]))


def f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def bf16(value):
    """Rounded to bf16, ties to even."""
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return struct.unpack("<f", struct.pack("<I", bits))[0]


@pytest.mark.parametrize("kind", ["ones_all", "randn_all"])
@pytest.mark.parametrize(
    "layout",
    [
        [],
        ["--seqlen", "1"],
        ["--batch", "2", "--heads", "3", "--seqlen", "65"],
        ["--seqlen", "200", "--scale", "0.5"],
        ["--seqlen", "100", "--terms", "0"],
        ["--seqlen", "100", "--terms", "1"],
        ["--seqlen", "100", "--terms", "0,2"],
    ],
    ids=" ".join,
)
def test_every_implementation_passes(generate, check, kind, layout):
    done = check(generate(kind, *layout), "--device", "cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS" in done.stdout
    assert "FAIL" not in done.stdout


def test_only_other_layouts_have_a_header(generate):
    assert numbers_of(generate("ones_all"))[0] == []
    header, _ = numbers_of(generate("ones_all", "--batch", "2", "--seqlen", "3"))
    assert header == ["# based-case B=2 H=1 N=3 scale=0.25 terms=0,1,2"]


def test_inputs_follow_the_seed_and_are_bf16(generate):
    small = ("randn_all", "--seqlen", "5")
    first = generate(*small).read_text()
    assert generate(*small).read_text() == first
    path = generate(*small, "--seed", "43")
    assert path.read_text() != first
    inputs = [f32(float(number)) for number in numbers_of(path)[1][: 5 * OUTPUT_SHARE.start]]
    assert inputs == [bf16(value) for value in inputs]


def test_the_originals_files_are_read(generate, check):
    """ThunderKittens' own: no header, o rounded to bf16, Python's notation, one line."""
    path = generate("randn_all")
    _, numbers = numbers_of(path)
    inputs_end, end = 1024 * OUTPUT_SHARE.start, 1024 * NUMBERS_A_TOKEN
    values = [float(number) for number in numbers]
    values[inputs_end:end] = map(bf16, values[inputs_end:end])
    path.write_text("".join(f"{value!r} " for value in values))
    done = check(path, "--device", "cpu")
    assert done.returncode == 0, done.stdout
    assert "state max_err" in done.stdout

    path.write_text("".join(f"{value!r} " for value in values[:end]))  # without the states
    done = check(path, "--device", "cpu")
    assert done.returncode == 0, done.stdout
    assert "state" not in done.stdout


def test_a_headerless_shape_can_be_told(generate, check):
    path = generate("randn_all", "--seqlen", "70", "--scale", "0.5", "--terms", "0,2")
    header, numbers = numbers_of(path)
    assert header
    rewrite(path, [], numbers)
    assert check(path).returncode == 2
    done = check(path, "--seqlen", 70, "--scale", 0.5, "--terms", "0,2", "--device", "cpu")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("terms", ["0,1,2", "1"])
@pytest.mark.parametrize("share", ["first token", "last number of o", "state"])
def test_a_corrupted_number_fails(generate, check, terms, share):
    path = generate("randn_all", "--seqlen", "80", "--terms", terms)
    header, numbers = numbers_of(path)
    at = {
        "first token": 80 * OUTPUT_SHARE.start,
        "last number of o": 80 * NUMBERS_A_TOKEN - 1,
        "state": len(numbers) - 1,
    }[share]
    numbers[at] = str(float(numbers[at]) + 0.1)
    rewrite(path, header, numbers)
    done = check(path, "--implementation", "based", "--device", "cpu")
    assert done.returncode == 1
    assert "FAIL" in done.stdout


def test_an_output_of_zeros_fails(generate, check):
    for terms in ("0,1,2", "1"):
        path = generate("randn_all", "--seqlen", "80", "--terms", terms)
        header, numbers = numbers_of(path)
        output = slice(80 * OUTPUT_SHARE.start, 80 * NUMBERS_A_TOKEN)
        numbers[output] = ["0"] * (output.stop - output.start)
        rewrite(path, header, numbers)
        assert check(path, "--device", "cpu").returncode == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda numbers: numbers[:-1], "has 18207 numbers, want 800"),
        (lambda numbers: [*numbers, "1"], "has 18209 numbers, want 800"),
        (lambda numbers: ["nan", *numbers[1:]], "number 1 is nan, want finite numbers"),
        (lambda numbers: [*numbers[:-1], "inf"], "number 18208 is inf, want finite numbers"),
        (lambda numbers: [*numbers[:3], "x", *numbers[4:]], "number 4 is 'x', want a number"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(generate, check, change, said):
    path = generate("randn_all", "--seqlen", "5")
    header, numbers = numbers_of(path)
    rewrite(path, header, change(numbers))
    done = check(path)
    assert done.returncode == 2
    assert said in done.stderr
    assert str(path) in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_unknown_names_are_refused(generate, check):
    path = generate("ones_all", "--seqlen", "5")
    done = check(path, "--implementation", "nonsense")
    assert done.returncode == 2
    assert "'nonsense', want one of based, " in done.stderr
    for arguments in (["--device", "tpu"], ["--nonsense"]):
        done = check(path, *arguments)
        assert done.returncode == 2
        assert done.stderr
    assert check("/nonexistent").returncode == 2
