"""The few lines of an Nsight Compute report that matter, kernel by kernel, as text.

usage: ncu_summary.py RAW.csv [ROWS.json]

RAW.csv is ncu's raw page in base units. Where ROWS.json, the results file of the profiled run,
holds a row's compulsory bytes, the DRAM bytes of its kernels are set against them.
"""

import csv
import json
import pathlib
import re
import sys

# What a line shows: its unit, a factor from ncu's base unit, and the metric's names on the
# architectures, of which a report holds one.
FIELDS = {
    "duration": ("us", 1e-3, ["gpu__time_duration.sum"]),
    "tensor pipe": (
        "%",
        1,
        [
            "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active",
            "sm__inst_executed_pipe_tensor.avg.pct_of_peak_sustained_active",
            "sm__pipe_tensor_op_hmma_cycles_active.avg.pct_of_peak_sustained_active",
        ],
    ),
    "DRAM": (
        "%",
        1,
        [
            "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed",
            "dram__throughput.avg.pct_of_peak_sustained_elapsed",
        ],
    ),
    "DRAM read": ("MB", 1e-6, ["dram__bytes_read.sum"]),
    "DRAM written": ("MB", 1e-6, ["dram__bytes_write.sum"]),
    "shared memory": (
        "%",
        1,
        [
            "l1tex__data_pipe_lsu_wavefronts_mem_shared.avg.pct_of_peak_sustained_elapsed",
            "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum.pct_of_peak_sustained_elapsed",
        ],
    ),
    "issue slots": ("%", 1, ["smsp__issue_active.avg.pct_of_peak_sustained_active"]),
    "occupancy": ("%", 1, ["sm__warps_active.avg.pct_of_peak_sustained_active"]),
    "registers": ("a thread", 1, ["launch__registers_per_thread"]),
}
STALL = re.compile(r"smsp__average_warps_issue_stalled_(\w+?)_per_issue_active\.ratio")
STALLS_SHOWN = 4
ROW_NAME = re.compile(r"[a-z_]+/[a-z0-9_]+/cuda(?:/[A-Za-z_]+:[A-Za-z0-9_+]+)+")


def number(text):
    """A metric's value; None for one that ncu could not collect."""
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def first_number(kernel, metrics):
    return next((v for m in metrics if (v := number(kernel.get(m, ""))) is not None), None)


def read_kernels(path):
    """ncu's CSV: a line of names, one of units, then a line a kernel; other lines come before."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = [line for line in file if line.startswith('"')]
    kernels = list(csv.DictReader(lines))
    return [kernel for kernel in kernels if kernel.get("ID")]


def row_of(kernel):
    """The row whose NVTX range a kernel ran in."""
    ranges = (v for k, v in kernel.items() if k and v and "Push/Pop" in k)
    return next((m.group() for r in ranges if (m := ROW_NAME.search(r))), "unknown row")


def describe(kernel):
    lines = [f"  {kernel.get('Kernel Name', 'kernel')}"]
    lines += [f"    {'grid':<14} {kernel.get('Grid Size')} of {kernel.get('Block Size')} threads"]
    for name, (unit, factor, metrics) in FIELDS.items():
        value = first_number(kernel, metrics)
        shown = "-" if value is None else f"{value * factor:.4g} {unit}"
        lines.append(f"    {name:<14} {shown}")
    stalls = {m.group(1): number(v) for k, v in kernel.items() if k and (m := STALL.fullmatch(k))}
    top = sorted(((v, k) for k, v in stalls.items() if v), reverse=True)[:STALLS_SHOWN]
    reasons = ", ".join(f"{name} {value:.2f}" for value, name in top) or "-"
    return [*lines, f"    {'top stalls':<14} {reasons} (warps an issue)"]


def compulsory_megabytes(path):
    if not path.exists():
        return {}
    rows = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
    return {row["row"]: row["compulsory_MB"] for row in rows if "compulsory_MB" in row}


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    kernels = read_kernels(pathlib.Path(sys.argv[1]))
    if not kernels:
        sys.exit("ncu_summary: the report holds no kernel")
    compulsory = compulsory_megabytes(pathlib.Path(sys.argv[2])) if len(sys.argv) == 3 else {}

    by_row = {}
    for kernel in kernels:
        by_row.setdefault(row_of(kernel), []).append(kernel)
    for row, its_kernels in by_row.items():
        print(row)
        for kernel in its_kernels:
            print("\n".join(describe(kernel)))
        moved = [
            first_number(k, FIELDS[f][2])
            for k in its_kernels
            for f in FIELDS
            if f in ("DRAM read", "DRAM written")
        ]
        if row in compulsory and None not in moved:
            measured = sum(moved) * 1e-6
            needed = compulsory[row]
            print(
                f"  DRAM bytes: {measured:.4g} MB measured, {needed:.4g} MB compulsory "
                f"({measured / needed:.2f} times)"
            )


if __name__ == "__main__":
    main()
