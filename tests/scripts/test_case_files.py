"""generate_vectors writes what based_check reads; what is wrong in a file is found and named."""

import struct
import subprocess
from pathlib import Path

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
    assert "final_state.kv max_err" in done.stdout

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
    assert "'nonsense' of prefill, want one of based, " in done.stderr
    for arguments in (["--device", "tpu"], ["--nonsense"]):
        done = check(path, *arguments)
        assert done.returncode == 2
        assert done.stderr


ATTENTION = ("--operation", "attention")


@pytest.mark.parametrize("kind", ["ones", "randn", "qk_test", "v_orientation"])
@pytest.mark.parametrize(
    "layout",
    [
        ["--seqlen", "1"],
        ["--batch", "2", "--heads", "3", "--seqlen", "65", "--layout", "bnhd"],
        ["--seqlen", "300", "--head-dim", "128", "--causal", "0"],
    ],
    ids=" ".join,
)
def test_attention_passes(generate, check, kind, layout):
    done = check(generate(kind, *ATTENTION, *layout), "--device", "cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "softmax_attention/cpu" in done.stdout


def test_the_originals_attention_files_are_read(generate, check):
    """Old ones lie as [B, N, H, D], later ones as [B, H, N, D]; neither says its shape."""
    shape = ("--batch", "2", "--heads", "3", "--seqlen", "65")
    for layout, other in (("bnhd", "bhnd"), ("bhnd", "bnhd")):
        path = generate("randn", *ATTENTION, *shape, "--layout", layout)
        rewrite(path, [], numbers_of(path)[1])
        read = ("--device", "cpu", *ATTENTION, *shape)
        assert check(path, *read, "--layout", layout).returncode == 0
        assert check(path, *read, "--layout", other).returncode == 1
        done = check(path, "--device", "cpu", *ATTENTION, *shape[:4])
        assert done.returncode == 2
        assert "has 99840 numbers, want 1536: q [2, 3, 1, 64]" in done.stderr


def test_a_wrong_row_of_attention_is_placed(generate, check):
    path = generate("randn", *ATTENTION, "--heads", "2", "--seqlen", "100", "--layout", "bnhd")
    header, numbers = numbers_of(path)
    numbers[-1] = str(float(numbers[-1]) + 0.5)
    rewrite(path, header, numbers)
    done = check(path, "--device", "cpu")
    assert done.returncode == 1
    assert "o[0,1,99,63] is " in done.stdout


def test_options_of_prefill_need_its_own_tensors(generate, check):
    path = generate("randn_all", "--seqlen", "20")
    header, numbers = numbers_of(path)
    outputs = numbers[: 20 * NUMBERS_A_TOKEN]
    rewrite(path, ["# based-case operation=prefill B=1 H=1 N=20"], outputs)
    assert check(path, "--device", "cpu").returncode == 0
    rewrite(path, [header[0] + " options=normalize"], numbers)
    done = check(path, "--device", "cpu")
    assert done.returncode == 2
    assert "operation=prefill" in done.stderr
    rewrite(path, ["# based-case operation=prefill B=1 H=1 N=20 options=normalize"], outputs)
    assert check(path, "--device", "cpu").returncode == 1


def test_a_state_that_a_call_updates_is_read_and_judged(check, tmp_path):
    """decode: one token after none, so that the state is phi(k) v and o is (1 + s + s^2/2) v."""
    state = ["0"] * (153 * 64)
    zero, v = ["0"] * 16, [str(c) for c in range(64)]
    after = v + ["0"] * (152 * 64)
    path = tmp_path / "case.txt"
    rewrite(path, ["# based-case operation=decode state=f32"], zero + zero + v + state + v + after)
    read = ("--device", "cpu", "--implementation", "based")
    done = check(path, *read)
    assert done.returncode == 0, done.stdout + done.stderr
    after[100] = "1"
    rewrite(path, ["# based-case operation=decode state=f32"], zero + zero + v + state + v + after)
    done = check(path, *read)
    assert done.returncode == 1
    assert "kv[0,0,1,36] is 0, want 1" in done.stdout


def test_what_a_header_says_is_not_said_again(generate, check):
    path = generate("ones_all", "--batch", "2", "--seqlen", "3")
    for option in (("--seqlen", "3"), ("--layout", "bhnd"), ("--operation", "prefill")):
        done = check(path, *option)
        assert done.returncode == 2
        assert f"has a header, and {option[0]} is for files without one" in done.stderr
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("B=1 B=2 N=3", "the header has 'B' twice"),
        ("B=1 N=", "the header's N: --seqlen: '' is not"),
        ("B=1 W=3", "the header has 'W=3', want "),
    ],
)
def test_a_header_that_is_none_is_refused_in_one_line(generate, check, header, said):
    path = generate("ones_all", "--seqlen", "3")
    rewrite(path, [f"# based-case {header}"], numbers_of(path)[1])
    done = check(path)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize("option", ["--implementation", "--layout", "--seqlen", "--terms"])
def test_an_option_without_its_value_is_refused(check, tmp_path, option):
    (tmp_path / "case").write_text("1 2 3")
    for given in ([option], [f"{option}="]):
        done = check("case", *given)
        assert done.returncode == 2
        assert done.stderr.startswith(f"based_check: {option}")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["/nonexistent"], "/nonexistent: cannot be read"),
        (["."], ".: is a folder"),
        (["empty"], "empty: is empty"),
        (["case", "--operation", "nonsense"], "'nonsense' is no operation; there is attention, "),
        (["case", "--layout", "nhbd"], "layout is 'nhbd', want bhnd or bnhd"),
        (["case", "--head-dim", "64"], "--head-dim: prefill has no such axis"),
        (["case", *ATTENTION, "--terms", "0"], "--terms: attention has none"),
        (["case", *ATTENTION, "--head-dim", "65"], "--head-dim: '65' is not 64 or 128"),
    ],
)
def test_what_is_no_case_is_refused_in_one_line(check, tmp_path, arguments, said):
    (tmp_path / "empty").touch()
    (tmp_path / "case").write_text("1 2 3")
    done = check(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_report_that_cannot_be_written_is_no_success(generate, binary):
    case = generate("ones_all", "--seqlen", "8")
    for arguments in ([case, "--device", "cpu"], ["--help"]):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [binary("based_check"), *arguments],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert done.returncode == 1
        assert done.stderr == "based_check: cannot write standard output\n"


def test_a_generator_that_fails_leaves_nothing(run, script, tmp_path):
    generator = script("generate_vectors")
    assert run(generator, "randn", *ATTENTION, "--seqlen", "3").returncode == 0
    name = "randn_3_64_causal_True.txt"
    before = (tmp_path / name).read_text()
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))"
    sitecustomize = tmp_path / "limit"
    sitecustomize.mkdir()
    (sitecustomize / "sitecustomize.py").write_text(limit)
    done = run(
        generator,
        "randn",
        *ATTENTION,
        "--seqlen",
        "3",
        "--seed",
        "7",
        env={"PYTHONPATH": str(sitecustomize)},
    )
    assert done.returncode == 2
    assert "cannot write" in done.stderr
    assert (tmp_path / name).read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["limit", name]
