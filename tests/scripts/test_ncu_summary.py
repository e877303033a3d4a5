"""The summary of an Nsight Compute report, from a report of invented numbers."""

import csv
import json
import sys

import pytest

ROW = "prefill/based/cuda/B:1/H:1/N:64"
STALL = "smsp__average_warps_issue_stalled_{}_per_issue_active.ratio"
UNITS = {"gpu__time_duration.sum": "ns", "dram__bytes_read.sum": "byte"}
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
}


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
        results.write_text(json.dumps({"benchmarks": list(rows)}))
        return run(sys.executable, root / "scripts/lib/ncu_summary.py", raw, results)

    return summarise_


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
    assert "compulsory" not in done.stdout


def test_dram_bytes_are_set_against_the_compulsory(summarise):
    done = summarise([KERNEL, KERNEL | {"ID": "1"}], [{"row": ROW, "compulsory_MB": 4.0}])
    assert "8 MB measured, 4 MB compulsory (2.00 times)" in done.stdout


def test_an_empty_report_fails(summarise):
    done = summarise([])
    assert done.returncode == 1
    assert "holds no kernel" in done.stderr
