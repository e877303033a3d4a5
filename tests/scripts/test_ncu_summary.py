"""The summary and audit of an Nsight Compute report, from a report of invented numbers."""

import csv
import json
import sys

import pytest

ROW = "prefill/based/cuda/B:1/H:1/N:64"
STALL = "smsp__average_warps_issue_stalled_{}_per_issue_active.ratio"
UNITS = {"gpu__time_duration.sum": "ns", "dram__bytes_read.sum": "byte"}
TENSOR = "sm__ops_path_tensor_src_bf16_dst_fp32.sum"
VECTOR = "smsp__sass_thread_inst_executed_op_{}_pred_on.sum"
KERNEL = {
    "ID": "0",
    "Kernel Name": "some_kernel",
    "Grid Size": "(132, 1, 1)",
    "Block Size": "(256, 1, 1)",
    "thread Domain:Push/Pop_Range:PL_Type:PL_Value:CLR_Type:Color:Msg_Type:Msg": f"1:{ROW}:none",
    "gpu__time_duration.sum": "12,500",
    "dram__bytes_read.sum": "3000000",
    "dram__bytes_write.sum": "1000000",
    "launch__registers_per_thread": "136",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "n/a",
    STALL.format("barrier"): "0.25",
    STALL.format("long_scoreboard"): "3.5",
    STALL.format("wait"): "1.5",
    TENSOR: "6,000,000,000",
    VECTOR.format("fadd"): "1000",
    VECTOR.format("fmul"): "1000",
    VECTOR.format("ffma"): "1000000",
    VECTOR.format("hadd"): "1000",
    VECTOR.format("hmul"): "1000",
    VECTOR.format("hfma"): "1000000",
    "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active": "60",
}
CONTEXT = {"gpu_name": "Some GPU", "date": "2030-01-02T03:04:05+00:00", "revision": "abc"}


@pytest.fixture
def summarise(run, root, tmp_path):
    def summarise_(kernels, rows=()):
        raw, results = tmp_path / "raw.csv", tmp_path / "rows.json"
        with raw.open("w", newline="") as file:
            file.write("==PROF== not a part of the table\n")
            writer = csv.DictWriter(file, KERNEL, quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerow({name: UNITS.get(name, "") for name in KERNEL})
            writer.writerows(kernels)
        results.write_text(json.dumps({"context": CONTEXT, "benchmarks": list(rows)}))
        summary = root / "scripts/lib/ncu_summary.py"
        return run(sys.executable, summary, raw, results, tmp_path / "audit.json")

    return summarise_


@pytest.fixture
def audit(summarise, tmp_path):
    """The audit of these kernels and results' rows."""

    def audit_(kernels, rows):
        done = summarise(kernels, rows)
        assert done.returncode == 0, done.stderr
        return json.loads((tmp_path / "audit.json").read_text())

    return audit_


def line(done, title):
    (found,) = [" ".join(s.split()) for s in done.stdout.splitlines() if s.startswith(f"  {title}")]
    return found


def test_what_matters_is_shown_by_row(summarise):
    done = summarise([KERNEL, KERNEL | {"ID": "1", "Kernel Name": "cast"}])
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == ROW
    assert lines.count(ROW) == 1
    assert "some_kernel" in lines
    assert "cast" in lines
    assert "duration 12.5 us" in lines
    assert "DRAM read 3 MB" in lines
    assert "registers 136 a thread" in lines
    assert "occupancy -" in lines  # not collected, so not invented
    assert "top stalls long_scoreboard 3.50, wait 1.50, barrier 0.25 (warps an issue)" in lines


def test_dram_bytes_are_set_against_the_compulsory(summarise):
    done = summarise([KERNEL, KERNEL | {"ID": "1"}], [{"row": ROW, "compulsory_MB": 4.0}])
    assert line(done, "DRAM bytes") == "DRAM bytes measured / compulsory = 8 MB / 4 MB = 2.000"


def test_executed_flops_are_set_against_the_model(summarise):
    done = summarise([KERNEL, KERNEL | {"ID": "1"}], [{"row": ROW, "executed_GFLOP": 12.5}])
    expected = "FLOPs executed / model = 12 GFLOP / 12.5 GFLOP = 0.960 (tensor cores)"
    assert line(done, "FLOPs") == expected


def test_without_tensor_cores_the_other_units_count(summarise):
    kernels = [KERNEL | {TENSOR: "0"}, KERNEL | {"ID": "1", TENSOR: "0"}]
    done = summarise(kernels, [{"row": ROW, "executed_GFLOP": 0.012}])
    # 2 FLOPs an fp32 multiply-add, twice as many of a pair in half precision; two kernels.
    expected = "FLOPs executed / model = 0.01201 GFLOP / 0.012 GFLOP = 1.001 (CUDA cores)"
    assert line(done, "FLOPs") == expected


@pytest.mark.parametrize("missing", [TENSOR, VECTOR.format("hmul")])
def test_what_was_not_counted_is_not_invented(summarise, missing):
    kernel = KERNEL | {TENSOR: "0"} | {missing: "n/a", "dram__bytes_write.sum": ""}
    done = summarise([kernel], [{"row": ROW, "compulsory_MB": 4.0, "executed_GFLOP": 1.0}])
    assert line(done, "DRAM bytes") == "DRAM bytes measured / compulsory = - / 4 MB = -"
    assert line(done, "FLOPs") == "FLOPs executed / model = - / 1 GFLOP = -"


def test_the_audit_holds_a_row_of_several_kernels(audit):
    long = KERNEL | {"ID": "1", "gpu__time_duration.sum": "37500"}
    long["sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active"] = "20"
    found = audit([KERNEL, long], [{"row": ROW, "compulsory_MB": 4.0, "executed_GFLOP": 12.0}])
    rows = found.pop("rows")
    assert found == {
        "schema": "based-bench-audit/1",
        "device": "Some GPU",
        "date": CONTEXT["date"],
        "revision": "abc",
    }
    assert rows == [
        {
            "row": ROW,
            "kernels": 2,
            "duration_us": pytest.approx(50.0),
            "DRAM_MB": pytest.approx(8.0),
            "compulsory_MB": 4.0,
            "DRAM_over_compulsory": pytest.approx(2.0),
            "executed_GFLOP": pytest.approx(12.0),
            "model_GFLOP": 12.0,
            "executed_over_model": pytest.approx(1.0),
            "units": "tensor cores",
            "tensor_pct": pytest.approx(30.0),  # over time: a quarter of it at 60, the rest at 20
        }
    ]


def test_rows_are_kept_apart(audit):
    other = KERNEL | {"ID": "1"}
    other = {k: v.replace("/N:64", "/N:128") if "Push" in k else v for k, v in other.items()}
    found = audit([KERNEL, other], [])
    assert [row["row"] for row in found["rows"]] == [ROW, "prefill/based/cuda/B:1/H:1/N:128"]
    assert [row["executed_GFLOP"] for row in found["rows"]] == [6.0, 6.0]


@pytest.mark.parametrize(
    ("listing", "asked", "left"),
    [
        (
            "Device 0\nsm__ops_path_tensor_src_bf16_dst_fp32   Counter\n",
            {TENSOR, "launch__registers_per_thread"},
            {"gpu__time_duration.sum", VECTOR.format("ffma")},
        ),
        (
            "sm__ops_path_tensor_src_fp16_bf16_tf32_dst_fp32   Counter\n",
            {"sm__ops_path_tensor_src_fp16_bf16_tf32_dst_fp32.sum"},
            {TENSOR},
        ),
        ("", {TENSOR, "gpu__time_duration.sum", VECTOR.format("ffma")}, set()),
    ],
)
def test_only_metrics_that_ncu_lists_are_asked_for(run, root, listing, asked, left):
    """Where it lists none, because it cannot say, all are."""
    done = run(sys.executable, root / "scripts/lib/ncu_summary.py", "--metrics", input=listing)
    metrics = set(done.stdout.strip().split(","))
    assert asked <= metrics
    assert not left & metrics


def test_an_empty_report_fails(summarise):
    done = summarise([])
    assert done.returncode == 1
    assert "holds no kernel" in done.stderr
