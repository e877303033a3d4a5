"""The measured tables of the READMEs, as Markdown, from plots/data alone.

`load` reads our own results (h200*.json, files of based_bench), what the originals took on the same
kind of card (originals_h200.json, of scripts/peers, and peers_h200.json, by harnesses of their own)
and what a profiler counted (h200_audit.json, of scripts/profile_ncu); TABLES has a function for
each table. A cell has one number, by one method: the median of a row's burst where it has one, and
of its steady state otherwise. A cell without a measurement is a dash or says why, never a number.
"""

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from plots import names, style, summary
from plots.files import UsageError
from plots.mixers import MIXERS, state_kib, timed
from plots.pairs import pairs
from plots.published import DATA, PEERS
from plots.results import Group, groups, load_all
from plots.table import grid

HEADS = 16
NOT_MEASURED = "not measured yet"
ORIGINALS = "originals_h200.json"
_AUDIT = "h200_audit.json"
_AUDIT_SCHEMA = "based-bench-audit/1"
_ABSENT = "–"
_TEXTS = (
    "heads, mask",
    "what",
    "shape",
    "kernel",
    "baseline",
    "original",
    "row",
    "mixer",
    "fastest original",
    "on",
    "B, N",
    "state",
    "B, W",
)

# What prefill is held against, B and N: those of the first table, then the others.
_HEADLINE = ((1, 8192), (4, 8192), (16, 8192), (128, 8192), (4, 512), (16, 1024), (16, 32768))
_PREFILL = (*_HEADLINE, (2, 8192), (8, 8192), (1, 131072), (4, 2048), (1, 512), (1, 128))
# Softmax attention's shapes, B and N, and the parameters of a row that asks for nothing else.
_ATTENTION = tuple(itertools.product((16, 4, 1), (256, 512, 1024, 2048, 8192, 32768, 131072)))
# Of whole models: prompts and their tokens; sequences that get a token, and the tokens before it.
_PROMPTS, _STEPS = (16, 8000), (256, 2048)
_FUNCTIONS = {mixer.name: names.function(mixer.prefill) for mixer in MIXERS}
# The shapes at which the mixers stand beside each other, the one that fills the card last.
_MIXED = ((1, 8192), (16, 1024), (16, 8192))
_PLAIN_ATTENTION = {"B", "H", "N", "Dh", "causal"}
_ATTENTION_WORDS = {"W": "window", "Hkv": "key heads", "Nkv": "keys"}
_FORMS = (
    "Attention is causal with heads of 64, Mamba-2 has heads of 64 and 256 states, Mamba 16 states."
)
# A column -> which rows beside ours may stand in it; the fastest does.
_TK = "ThunderKittens"
_COLUMNS: dict[str, Callable[[pd.Series], bool]] = {
    _TK: lambda row: row["operation"] == "prefill" and names.project(row) == _TK,
    "best other Based": lambda row: row["operation"] == "prefill" and names.project(row) != _TK,
    "Mamba-2": lambda row: row["operation"] == "ssd",
    "Mamba": lambda row: row["operation"] == "selective_scan",
    "softmax attention": lambda row: row["operation"] == "attention",
}


@dataclass(frozen=True)
class Measured:
    ours: Group  # with the originals' rows as those of elsewhere
    origin: str  # where the originals' rows are from
    audit: dict | None  # None: no card was profiled yet

    def rows(self, operation: str) -> pd.DataFrame:
        """Our rows of an operation at 16 heads."""
        rows = self.ours.rows
        return rows[rows["operation"].eq(operation) & rows["H"].eq(HEADS)]

    def beside(self, size: dict, wanted: Callable[[pd.Series], bool]) -> pd.Series | None:
        """Of all comparable rows at this shape that are not of ours and are wanted the fastest; one
        without a time where none has one; None where there is no row."""
        rows = pd.concat([self.ours.rows[self.ours.rows["role"].ne("ours")], self.ours.elsewhere])
        rows = _at(rows, size)
        rows = rows[rows["H"].eq(HEADS) | rows["H"].isna()]  # a scan over channels has no heads
        rows = names.picked(rows, lambda row: names.comparable(row) and wanted(row))
        return None if rows.empty else rows.sort_values("us", na_position="last").iloc[0]


def load(folder: Path = DATA) -> Measured | None:
    """What `folder` holds; None where our own results are not there yet."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: is no folder; name the one that holds h200*.json")
    files = sorted(path for path in folder.glob("h200*.json") if path.name != _AUDIT)
    if not files:
        return None
    found = [group for group in groups(load_all(files)) if group.device == "cuda"]
    if len(found) != 1:
        raise UsageError(
            f"{folder}: its h200*.json hold {len(found)} GPUs or cache policies; expected one"
        )
    (ours,) = found
    originals = [folder / name for name in (PEERS, ORIGINALS)]
    read = groups(load_all([path for path in originals if path.exists()]), together=True)
    if len(read) != 1 or read[0].cards != ours.cards:
        cards = sorted({card for group in read for card in group.cards})
        raise UsageError(
            f"{folder}: the originals are of {', '.join(cards)}, ours of {', '.join(ours.cards)}; "
            "expected one kind of card"
        )
    elsewhere = pd.concat([group.rows for group in read])
    elsewhere = elsewhere[~elsewhere["key"].isin(ours.rows["key"])]  # measured beside ours since
    with_originals = Group(ours.rows, ours.tag, elsewhere)
    return Measured(with_originals, read[0].caption, _load_audit(folder / _AUDIT))


def _load_audit(path: Path) -> dict | None:
    if not path.exists():
        return None
    document = json.loads(path.read_text(encoding="utf-8"))
    if document.get("schema") != _AUDIT_SCHEMA:
        raise UsageError(f"{path}: is no audit.json of scripts/profile_ncu ({_AUDIT_SCHEMA})")
    return document


def headline(measured: Measured) -> str:
    """The first README's: a few shapes, ours beside each family."""
    columns = {name: wanted for name, wanted in _COLUMNS.items() if name != "Mamba"}
    header = ("shape", "ours", *columns, "share of the roofline")
    lines = []
    for batch, length in _HEADLINE:
        size = {"B": batch, "N": length}
        ours = _fastest(measured.rows("prefill"), size)
        others = [measured.beside(size, wanted) for wanted in columns.values()]
        lines.append(
            [
                _shape(batch, length),
                *_bold([ours, *others]),
                _number(ours, "share", style.percent),
            ]
        )
    return _with_notes(
        grid(header, lines, _TEXTS),
        f"Prefill, µs, {HEADS} heads, bf16, cold cache.",
        "Best other Based: the fastest of the other originals and of their rewritten forms.",
        *summary.sentences(measured.ours)[-1:],
        _provenance(measured),
    )


def prefill(measured: Measured) -> str:
    header = ("kernel", "B, N", "µs", "floor", "roofline", "steady", *_COLUMNS, f"over {_TK}")
    lines = []
    for name in _own(measured.rows("prefill")):
        for batch, length in _PREFILL:
            size = {"B": batch, "N": length}
            rows = measured.rows("prefill")
            ours = _fastest(rows[rows["implementation"].eq(name)], size)
            if ours is None:
                continue
            others = [measured.beside(size, wanted) for wanted in _COLUMNS.values()]
            lines.append(
                [
                    f"`{name}`",
                    f"{batch}, {length}",
                    _time(ours),
                    _number(ours, "floor_us", style.significant),
                    _number(ours, "share", style.percent),
                    _number(ours, "time_us", _us),
                    *map(_time, others),
                    _ratio(others[0], ours, "×"),
                ]
            )
    return _with_notes(
        grid(header, lines, _TEXTS),
        "Steady: many calls in a row, which a power cap slows; the others are of a burst after a "
        "rest where a row has one.",
        _FORMS,
        _provenance(measured),
    )


def baselines(measured: Measured) -> str:
    header = (
        "baseline",
        "original",
        "shape",
        "µs",
        "original's",
        "ratio",
        "MiB",
        "original's",
        "error",
        "original's",
    )
    lines = []
    for pair in pairs(measured.ours, measured.ours.cards[0]):
        both = (pair.baseline, pair.original)
        cells = [[_number(row, column, text) for row in both] for column, text in _PAIR_COLUMNS]
        lines.append(
            [
                *(f"`{row['implementation']}`" for row in both),
                pair.shape,
                *cells[0],
                f"{pair.ratio:.2f}",
                *cells[1],
                *cells[2],
            ]
        )
    return _with_notes(grid(header, lines, _TEXTS), _provenance(measured))


def decode(measured: Measured) -> str:
    return _steps(measured, "decode", lambda row: (f"{int(row['B'])}", row["params"].get("state")))


def sliding_window(measured: Measured) -> str:
    return _steps(measured, "sliding_window", lambda row: (f"{int(row['B'])}, {int(row['W'])}",))


def _steps(measured: Measured, operation: str, place: Callable) -> str:
    """One token of every sequence: ours, and each other implementation, in its own column."""
    rows = measured.rows(operation)
    theirs = measured.ours.elsewhere
    theirs = theirs[theirs["operation"].eq(operation) & theirs["H"].eq(HEADS)]
    everything = pd.concat([rows[rows["role"].ne("ours")], theirs])
    others = list(dict.fromkeys(everything["implementation"]))
    shape = ("B, W",) if operation == "sliding_window" else ("B", "state")
    header = (*shape, "µs", "floor", "roofline", *(f"`{n}`" for n in others), "over the fastest")
    lines = []
    own = rows[rows["role"].eq("ours")].sort_values(["W", "B"], kind="stable")
    for _, ours in own.iterrows():
        cells = [
            _fastest(
                everything[everything["implementation"].eq(name)],
                {"B": ours["B"], "W": ours["W"]},
                ours["params"].get("state"),
            )
            for name in others
        ]
        timed = [row for row in cells if row is not None and row["status"] == "ok"]
        fastest = min(timed, key=lambda row: row["us"], default=None)
        lines.append(
            [
                *place(ours),
                _time(ours),
                _number(ours, "floor_us", style.significant),
                _number(ours, "share", style.percent),
                *map(_time, cells),
                _ratio(fastest, ours, "×"),
            ]
        )
    return _with_notes(grid(header, lines, _TEXTS), _provenance(measured))


def options(measured: Measured) -> str:
    """What the options of our prefill cost, in bursts and in a steady state."""
    rows = measured.rows("prefill")
    rows = rows[rows["role"].eq("ours") & ~rows["params"].map(lambda p: "variant" in p)]
    option = rows["params"].map(lambda params: params.get("options", ""))
    kinds = sorted({kind for kind in option if kind}, key=len)
    header = (
        "kernel",
        "B, N",
        *(
            name
            for method in ("burst", "steady")
            for name in (method, *(f"{kind.replace('+', ', ')}" for kind in kinds))
        ),
    )
    lines = []
    shapes = rows[option.ne("")][["implementation", "B", "N"]].drop_duplicates()
    for name, batch, length in shapes.itertuples(index=False):
        of_shape = rows[rows["implementation"].eq(name)]
        of_shape = _at(of_shape, {"B": batch, "N": length})
        by_kind = {row["params"].get("options", ""): row for _, row in of_shape.iterrows()}
        cells = []
        for column in ("burst_us", "time_us"):
            plain = by_kind.get("", {}).get(column, math.nan)
            cells.append(_ABSENT if math.isnan(plain) else _us(plain))
            for kind in kinds:
                cells.append(_more(by_kind.get(kind, {}).get(column, math.nan), plain))
        lines.append([f"`{name}`", f"{int(batch)}, {int(length)}", *cells])
    return _with_notes(grid(header, lines, _TEXTS), f"µs, {HEADS} heads. {measured.ours.caption}.")


def attention(measured: Measured) -> str:
    """Softmax attention at a few shapes, by head dimension and mask: every implementation."""
    rows = pd.concat([measured.rows("attention"), measured.ours.elsewhere])
    rows = rows[rows["operation"].eq("attention") & rows["H"].eq(HEADS)]
    rows = names.picked(rows, lambda row: row["params"].keys() == _PLAIN_ATTENTION)
    rank = rows["role"].map({"ours": 0, "baseline": 1}).fillna(2)
    implementations = list(
        dict.fromkeys(rows.loc[rank.sort_values(kind="stable").index, "implementation"])
    )
    forms = rows["params"].map(lambda params: (params["Dh"], -params["causal"]))
    header = (
        "heads, mask",
        "B, N",
        *(f"`{name}`" for name in implementations),
        "fastest other over ours",
    )
    lines = []
    for form in sorted(set(forms)):
        for batch, length in _ATTENTION:
            of_shape = _at(
                rows[forms.map(lambda own, form=form: own == form)], {"B": batch, "N": length}
            )
            if not (of_shape["role"].eq("ours") & of_shape["status"].eq("ok")).any():
                continue
            cells = [
                _first(of_shape, of_shape["implementation"].eq(name)) for name in implementations
            ]
            others = of_shape["role"].eq("original")
            lines.append(
                [
                    f"{form[0]}, {'causal' if form[1] else 'full'}",
                    f"{batch}, {length}",
                    *_bold(cells),
                    _ratio(
                        _first(of_shape, others), _first(of_shape, of_shape["role"].eq("ours")), "×"
                    ),
                ]
            )
    return _with_notes(
        grid(header, lines, _TEXTS),
        "µs of a burst, or of the steady state where a row has none, "
        f"{HEADS} heads, bf16, cold cache.",
        _provenance(measured),
    )


def attention_forms(measured: Measured) -> str:
    """What our softmax attention takes for masks, grouped heads and bad inputs."""
    every = pd.concat([measured.ours.rows, measured.ours.elsewhere])
    every = every[every["operation"].eq("attention")]
    every = names.picked(every, lambda row: "variant" not in row["params"])
    rows = every[every["role"].eq("ours")]
    originals = every[every["role"].eq("original") & every["status"].eq("ok")]
    special = names.picked(rows, lambda row: row["params"].keys() > _PLAIN_ATTENTION)
    header = (
        "kernel",
        "shape",
        "heads, mask",
        "what",
        "µs",
        "of the plain row's",
        "fastest original",
        "error",
        "redone",
    )
    lines = []
    for _, row in special.sort_values(["implementation", "H", "B", "N"], kind="stable").iterrows():
        params = row["params"]
        plain = {name: params[name] for name in _PLAIN_ATTENTION}
        beside = _first(
            rows,
            rows["params"].map(lambda own, plain=plain: own == plain)
            & rows["implementation"].eq(row["implementation"]),
        )
        theirs = _first(originals, originals["params"].map(lambda own, at=params: own == at))
        cells = _bold([row, theirs])
        what = ", ".join(
            f"{_ATTENTION_WORDS.get(name, name)} {value}"
            for name, value in params.items()
            if name not in _PLAIN_ATTENTION
        )
        lines.append(
            [
                f"`{row['implementation']}`",
                f"B = {params['B']}, H = {params['H']}, N = {params['N']}",
                f"{params['Dh']}, {'causal' if params['causal'] else 'full'}",
                what,
                cells[0],
                _ratio(row, beside, "×"),
                cells[1] if theirs is None else f"{cells[1]}, {names.project(theirs)}",
                _number(row, "rel_err", "{:.1e}".format),
                _number(row, "redone", style.significant),
            ]
        )
    return _with_notes(
        grid(header, lines, _TEXTS),
        "Redone: tiles of 64 queries that a guessed maximum was wrong for.",
        f"{measured.ours.caption}.",
    )


def mixers(measured: Measured) -> str:
    """Ours of each sequence mixer beside the fastest of its originals."""
    header = ["mixer", "state of a sequence"]
    for batch, length in _MIXED:
        header += [f"B = {batch}, N = {length}", "its original"]
    lines, used = [], []
    for mixer in MIXERS:
        rows = timed(measured.ours, mixer.prefill, mixer.sizes)
        kib = state_kib(rows)
        line = [mixer.name, "grows" if math.isnan(kib) else style.memory_text(kib / 1024)]
        share, whose = _ABSENT, {}
        for batch, length in _MIXED:
            both = _both(rows, batch, length)
            line += _bold(both)
            share = _number(both[0], "share", style.percent)
            if both[1] is not None:
                whose[names.project(both[1])] = None
            used += [row for row in both if row is not None]
        if any(cell != _ABSENT for cell in line[2::2]):
            lines.append([*line, share, ", ".join(whose) or _ABSENT])
    return _with_notes(
        grid((*header, "share of the roofline", "fastest original"), lines, _TEXTS),
        "Prefill, µs of a burst, or of the steady state where a row has none, bf16, cold cache; "
        "bold: the faster of ours and the original; the roofline's share at the last shape. "
        "Mamba-2: heads, values a head, states a value. Based has 16 heads of 64 values and 153 "
        "states a value, softmax attention 16 heads of 64, causal, Mamba 2048 channels of 16 "
        "states.",
        f"{Group(pd.DataFrame(used), '').caption}." if used else "",
    )


def _both(rows: pd.DataFrame, batch: int, length: int) -> list[pd.Series | None]:
    """Ours and the fastest original at a shape."""
    rows = _at(rows, {"B": batch, "N": length})
    return [_first(rows, rows["role"].eq(role)) for role in ("ours", "original")]


def answer(measured: Measured) -> str:
    """With equal engineering, which mixer is fastest, and does it matter for a whole model?"""
    found = {mixer.name: timed(measured.ours, mixer.prefill, mixer.sizes) for mixer in MIXERS}
    by_shape = {at: _times_at(found, at, "ours") for at in _MIXED}
    batch, length = _MIXED[-1]
    ours = by_shape[batch, length]
    if len(ours) < 2:
        return NOT_MEASURED
    first = min(ours, key=ours.get)
    leaders = {min(times, key=times.get) for times in by_shape.values() if times}
    where = "" if leaders == {first} else f" at {_shape(batch, length)}"

    def times_as_long(times: dict) -> str:
        others = {n: us for n, us in times.items() if _FUNCTIONS[n] != _FUNCTIONS[first]}
        return _ratios(others, ours[first])

    said = [
        f"**With equal engineering {_FUNCTIONS[first]} is the fastest in prefill{where}**: for "
        f"{batch} sequences of {length} tokens it takes {_us(ours[first])} µs, and "
        f"{times_as_long(ours)} times as long."
    ]
    if theirs := times_as_long(_times_at(found, (batch, length), "original")):
        said.append(f"With the fastest originals of the others it would be {theirs} times.")
    (prompts, tokens), (sequences, context) = _PROMPTS, _STEPS
    prefill = _models(measured, "model_prefill", {"B": prompts, "N": tokens}, None)
    steps = _models(measured, "model_decode", {"B": sequences}, context)
    if len(prefill) > 1 and len(steps) > 1:
        if _spread(prefill) < min(_spread(ours), _spread(steps)):
            said.append("**In a whole model less of this is left in prefill, more in generation**:")
        else:
            said.append("In a whole model:")
        said.append(
            f"{prompts} prompts of {tokens} tokens take {_in_ms(prefill)}, up to "
            f"{_times(_spread(prefill))} times the fastest; a token for each of {sequences} "
            f"sequences after {context} takes {_in_ms(steps)}, up to {_times(_spread(steps))} "
            "times."
        )
    return " ".join(said)


def _times_at(found: dict[str, pd.DataFrame], at: tuple[int, int], role: str) -> dict[str, float]:
    """The fastest of that role at a shape, for each mixer that has one."""
    rows = {name: _at(rows, dict(zip("BN", at, strict=True))) for name, rows in found.items()}
    rows = {name: _first(own, own["role"].eq(role)) for name, own in rows.items()}
    return {name: row["us"] for name, row in rows.items() if row is not None}


def _in_ms(times: dict) -> str:
    return ", ".join(f"`{name}` {_us(us / 1e3)}" for name, us in times.items()) + " ms"


def _ratios(times: dict, one: float) -> str:
    """Each function's times over one, from the least; of several sizes from .. to."""
    functions: dict[str, list[float]] = {}
    for name, us in sorted(times.items(), key=lambda item: item[1]):
        functions.setdefault(_FUNCTIONS[name], []).append(us / one)
    texts = [
        f"{kind} {' to '.join(dict.fromkeys(_times(ratio) for ratio in (found[0], found[-1])))}"
        for kind, found in functions.items()
    ]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def limits(measured: Measured) -> str:
    """Where ours is not first, or not near what the card can do."""
    said = [summary.sentences(measured.ours)[-1]]
    shares = []
    for mixer in MIXERS:
        rows = timed(measured.ours, mixer.prefill, mixer.sizes)
        row, _ = _both(rows, *_MIXED[0])
        full, _ = _both(rows, *_MIXED[-1])
        if row is not None and full is not None:
            texts = [_number(own, "share", style.percent) for own in (row, full)]
            shares.append(f"{mixer.name} {texts[0]} and {texts[1]}")
    said.append(
        f"Of the roofline ours reach at {_shape(*_MIXED[0])} and at {_shape(*_MIXED[-1])}: "
        f"{'; '.join(shares)}. A short row's time is latency, and the roofline does not know the "
        "exponentials of softmax and of Mamba's scan."
    )
    own = measured.ours.rows
    own = own[own["role"].eq("ours") & own["status"].eq("ok") & own["us"].gt(100)]
    steady = (own["time_us"] / own["burst_us"]).dropna()
    if not steady.empty:
        row = own.loc[steady.idxmax()]
        said.append(
            "A long row runs into the card's power limit in a steady state: by up to "
            f"{100 * (steady.max() - 1):.0f} % (`{row['key']}`)."
        )
    steps = _steps_of_mixers(measured)
    if len(steps) > 1:
        said.append(
            f"Of one decode step of {_STEPS[0]} sequences {next(iter(steps))} is the fastest: "
            + ", ".join(f"{name} {_us(us)}" for name, us in steps.items())
            + " µs, by the state that it reads and writes."
        )
    return "\n".join(f"- {text}" for text in said)


def _steps_of_mixers(measured: Measured) -> dict[str, float]:
    """What ours of each mixer takes for one step, the fastest first."""
    found = {}
    for mixer in MIXERS:
        rows = timed(measured.ours, mixer.decode, mixer.sizes | mixer.decode_sizes)
        row = _first(rows, rows["role"].eq("ours") & rows["B"].eq(_STEPS[0]))
        if row is not None:
            found[mixer.name] = row["us"]
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _shape(batch: int, length: int) -> str:
    return f"B = {batch}, N = {length}"


def _models(measured: Measured, operation: str, size: dict, context: int | None) -> dict:
    """Our time of each model at a size, the fastest first."""
    rows = measured.ours.rows
    rows = rows[rows["operation"].eq(operation) & rows["status"].eq("ok") & rows["role"].eq("ours")]
    rows = _at(rows, size)
    rows = names.picked(rows, lambda row: row["params"].get("context") == context)
    times = {row["params"].get("model"): row["us"] for _, row in rows.iterrows()}
    return dict(sorted(times.items(), key=lambda item: item[1]))


def _spread(times: dict) -> float:
    return max(times.values()) / min(times.values())


def _times(ratio: float) -> str:
    return style.significant(ratio, 2 if ratio < 100 else 3)


def audit(measured: Measured) -> str:
    if measured.audit is None:
        return NOT_MEASURED
    header = (
        "row",
        "on",
        "GFLOP",
        "of the model",
        "DRAM MB",
        "of the compulsory",
        "tensor cores",
        "shared memory",
        "DRAM",
    )
    lines = [
        [
            f"`{row['row']}`",
            row.get("units", _ABSENT),
            *(_number(row, column, text) for column, text in _AUDIT_COLUMNS),
        ]
        for row in measured.audit["rows"]
    ]
    found = measured.audit
    origin = f"{found['device']} · {found['date'][:10]} · revision {found['revision']}."
    return _with_notes(grid(header, lines, _TEXTS), origin)


def _us(value: float) -> str:
    return style.significant(value, 4)


_PAIR_COLUMNS = (("us", _us), ("mem_MiB", style.significant), ("rel_err", "{:.1e}".format))
_AUDIT_COLUMNS = (
    ("executed_GFLOP", style.significant),
    ("executed_over_model", "{:.2f}".format),
    ("DRAM_MB", style.significant),
    ("DRAM_over_compulsory", "{:.2f}".format),
    ("tensor_pct", "{:.0f} %".format),
    ("shared_pct", "{:.0f} %".format),
    ("DRAM_pct", "{:.0f} %".format),
)
TABLES: dict[str, Callable[[Measured], str]] = {
    "headline": headline,
    "prefill": prefill,
    "baselines": baselines,
    "decode": decode,
    "sliding window": sliding_window,
    "options": options,
    "attention": attention,
    "attention forms": attention_forms,
    "mixers": mixers,
    "answer": answer,
    "limits": limits,
    "audit": audit,
}


def _first(rows: pd.DataFrame, wanted: pd.Series) -> pd.Series | None:
    """The fastest of the wanted rows."""
    rows = rows[wanted].sort_values("us", na_position="last")
    return None if rows.empty else rows.iloc[0]


def _own(rows: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(rows[rows["role"].eq("ours")]["implementation"]))


def _at(rows: pd.DataFrame, size: dict) -> pd.DataFrame:
    for name, value in size.items():
        if not math.isnan(value):
            rows = rows[rows[name].eq(value)]
    return rows


def _fastest(rows: pd.DataFrame, size: dict, state: str | None = None) -> pd.Series | None:
    """Of our or one implementation's plain rows at this shape, and with this state."""
    rows = names.picked(
        _at(rows, size),
        lambda row: names.comparable(row) and state in (None, row["params"].get("state")),
    ).sort_values("us", na_position="last")
    return None if rows.empty else rows.iloc[0]


def _time(row: pd.Series | None) -> str:
    if row is None:
        return _ABSENT
    if row["status"] == "ok":
        return _us(row["us"])
    return {"out_of_memory": "out of memory"}.get(row["status"], row["status"])


def _bold(rows: list[pd.Series | None]) -> list[str]:
    """Their times, the least in bold type."""
    times = [math.inf if row is None or math.isnan(row["us"]) else row["us"] for row in rows]
    least = min(times) if sum(map(math.isfinite, times)) > 1 else None
    return [
        f"**{_time(row)}**" if time == least else _time(row)
        for row, time in zip(rows, times, strict=True)
    ]


def _ratio(above: pd.Series | None, below: pd.Series | None, suffix: str = "") -> str:
    if above is None or below is None:
        return _ABSENT
    ratio = above["us"] / below["us"]
    return _ABSENT if math.isnan(ratio) else f"{ratio:.2f}{suffix}"


def _number(row: pd.Series | dict | None, name: str, text: Callable[[float], str]) -> str:
    value = math.nan if row is None else row.get(name, math.nan)
    return _ABSENT if math.isnan(value) else text(value)


def _more(time: float, plain: float) -> str:
    """A time, and how much more it is than without options."""
    if math.isnan(time) or math.isnan(plain):
        return _ABSENT
    return f"{_us(time)}, {100 * (time / plain - 1):+.0f} %"


def _provenance(measured: Measured) -> str:
    return f"{measured.ours.caption}; originals: {measured.origin}."


def _with_notes(table: str, *notes: str) -> str:
    """A table over what explains it."""
    absent = [f"{_ABSENT}: not measured."] if f"| {_ABSENT} |" in table else []
    return "\n\n".join([table, " ".join([*absent, *notes])])
