"""What matters of an Nsight Compute report: its kernels as text, its rows as text and JSON.

usage: ncu_summary.py RAW.csv ROWS.json AUDIT.json
       ncu_summary.py --metrics

RAW.csv is ncu's raw page in base units, ROWS.json the results file of the profiled run. A row's
DRAM bytes are set against its compulsory bytes, its executed FLOPs against the suite's model of
them; the same goes to AUDIT.json. With --metrics: reads what `ncu --query-metrics` prints, and
prints the metrics that all of this needs, as ncu's own option takes them.
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
            "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum.pct_of_peak_sustained_elapsed",
            "l1tex__data_pipe_lsu_wavefronts_mem_shared.avg.pct_of_peak_sustained_elapsed",
        ],
    ),
    "issue slots": ("%", 1, ["smsp__issue_active.avg.pct_of_peak_sustained_active"]),
    "occupancy": ("%", 1, ["sm__warps_active.avg.pct_of_peak_sustained_active"]),
    "registers": ("a thread", 1, ["launch__registers_per_thread"]),
}
# FLOPs of mma.sync and wgmma alike; the suite's take bf16 and sum in fp32. Blackwell counts by
# fewer types.
TENSOR_FLOPS = [
    "sm__ops_path_tensor_src_bf16_dst_fp32.sum",
    "sm__ops_path_tensor_src_fp16_bf16_tf32_dst_fp32.sum",
]
# FLOPs of one thread's instruction on the CUDA cores: half precision comes in pairs, and a multiply
# and add is two.
VECTOR_FLOPS = {
    f"smsp__sass_thread_inst_executed_op_{operation}_pred_on.sum": flops
    for operation, flops in {
        "fadd": 1,
        "fmul": 1,
        "ffma": 2,
        "hadd": 2,
        "hmul": 2,
        "hfma": 4,
    }.items()
}
STALL = re.compile(r"smsp__average_warps_issue_stalled_(\w+?)_per_issue_active\.ratio")
STALLS_SHOWN = 4
ROW_NAME = re.compile(r"[a-z_]+/[a-z0-9_]+/cuda(?:/[A-Za-z_]+:[A-Za-z0-9_+.-]+)+")
AUDIT_SCHEMA = "based-bench-audit/1"


def number(text):
    """A metric's value; None for one that ncu could not collect."""
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def first_number(kernel, metrics):
    return next((v for m in metrics if (v := number(kernel.get(m, ""))) is not None), None)


def field(kernel, name):
    """A field of FIELDS in its unit; None where ncu did not collect it."""
    _, factor, metrics = FIELDS[name]
    value = first_number(kernel, metrics)
    return None if value is None else value * factor


def total(values):
    """Their sum; None where one is missing."""
    values = list(values)
    return None if None in values else sum(values)


def ratio(measured, expected):
    return measured / expected if measured is not None and expected else None


def to_collect(listing):
    """The metrics to ask ncu for: of each one's names the first that `listing`, what `ncu
    --query-metrics` prints, has; those of the launch itself are in no listing."""
    known = set(re.findall(r"^\w+__\w+", listing, re.MULTILINE))

    def first(names):
        found = (n for n in names if n.startswith("launch__") or n.partition(".")[0] in known)
        return next(found, None if known else names[0])

    wanted = [*(metrics for _, _, metrics in FIELDS.values()), TENSOR_FLOPS]
    wanted += [[metric] for metric in VECTOR_FLOPS]
    return [metric for names in wanted if (metric := first(names))]


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
    lines += [f"    {name:<14} {shown(field(kernel, name), FIELDS[name][0])}" for name in FIELDS]
    stalls = {m.group(1): number(v) for k, v in kernel.items() if k and (m := STALL.fullmatch(k))}
    top = sorted(((v, k) for k, v in stalls.items() if v), reverse=True)[:STALLS_SHOWN]
    reasons = ", ".join(f"{name} {value:.2f}" for value, name in top) or "-"
    return [*lines, f"    {'top stalls':<14} {reasons} (warps an issue)"]


def shown(value, unit):
    return "-" if value is None else f"{value:.4g} {unit}"


def executed_flops(kernels):
    """The FLOPs of a row's kernels and the units they ran on: the tensor cores' alone where they
    have any, as the suite's models count them."""
    tensor = total(first_number(kernel, TENSOR_FLOPS) for kernel in kernels)
    if tensor is None:
        return None, None
    if tensor > 0:
        return tensor, "tensor cores"
    vector = [number(k.get(m, "")) for k in kernels for m in VECTOR_FLOPS]
    weights = [*VECTOR_FLOPS.values()] * len(kernels)
    counted = total(
        None if v is None else v * flops for v, flops in zip(vector, weights, strict=True)
    )
    return counted, None if counted is None else "CUDA cores"


def over_time(kernels, name):
    """The mean of a percentage over the time of a row's kernels."""
    durations = [field(kernel, "duration") for kernel in kernels]
    parts = [field(kernel, name) for kernel in kernels]
    if None in durations or None in parts or not sum(durations):
        return None
    return sum(d * p for d, p in zip(durations, parts, strict=True)) / sum(durations)


def audit(name, kernels, row):
    """What a row's kernels did, summed, against what the suite says of it."""
    moved = total(field(k, f) for k in kernels for f in ("DRAM read", "DRAM written"))
    flops, units = executed_flops(kernels)
    gflop = None if flops is None else flops * 1e-9
    found = {
        "row": name,
        "kernels": len(kernels),
        "duration_us": total(field(kernel, "duration") for kernel in kernels),
        "DRAM_MB": moved,
        "compulsory_MB": row.get("compulsory_MB"),
        "DRAM_over_compulsory": ratio(moved, row.get("compulsory_MB")),
        "executed_GFLOP": gflop,
        "model_GFLOP": row.get("executed_GFLOP"),
        "executed_over_model": ratio(gflop, row.get("executed_GFLOP")),
        "units": units,
        "tensor_pct": over_time(kernels, "tensor pipe"),
        "shared_pct": over_time(kernels, "shared memory"),
        "DRAM_pct": over_time(kernels, "DRAM"),
    }
    return {key: value for key, value in found.items() if value is not None}


def describe_audit(found):
    def line(title, above, below, unit, quotient):
        value = found.get(quotient)
        return (
            f"  {title} = {shown(found.get(above), unit)} / {shown(found.get(below), unit)} = "
            f"{'-' if value is None else f'{value:.3f}'}"
        )

    flops = line(
        "FLOPs       executed / model     ",
        "executed_GFLOP",
        "model_GFLOP",
        "GFLOP",
        "executed_over_model",
    )
    return [
        line(
            "DRAM bytes  measured / compulsory",
            "DRAM_MB",
            "compulsory_MB",
            "MB",
            "DRAM_over_compulsory",
        ),
        flops + (f" ({found['units']})" if "units" in found else ""),
    ]


def main():
    if sys.argv[1:] == ["--metrics"]:
        print(",".join(to_collect(sys.stdin.read())))
        return
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    raw, results, out = map(pathlib.Path, sys.argv[1:])
    kernels = read_kernels(raw)
    if not kernels:
        sys.exit("ncu_summary: the report holds no kernel")
    document = json.loads(results.read_text(encoding="utf-8"))
    rows = {row["row"]: row for row in document["benchmarks"]}

    by_row = {}
    for kernel in kernels:
        by_row.setdefault(row_of(kernel), []).append(kernel)
    audits = []
    for name, its_kernels in by_row.items():
        print(name)
        for kernel in its_kernels:
            print("\n".join(describe(kernel)))
        audits.append(audit(name, its_kernels, rows.get(name, {})))
        print("\n".join(describe_audit(audits[-1])))
    context = document["context"]
    head = {"schema": AUDIT_SCHEMA} | {
        key: context.get(source, "unknown")
        for key, source in {"device": "gpu_name", "date": "date", "revision": "revision"}.items()
    }
    out.write_text(json.dumps(head | {"rows": audits}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
