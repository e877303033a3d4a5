"""Lines of one quantity over one size: a family's fastest member each, named at its end.

A figure of this kind is one Curves: its question, the operations whose rows stand in it together,
and the size that it varies. All other members are in the chart too, and hidden at first.
"""

import itertools
import math
from dataclasses import dataclass, field

import altair as alt
import pandas as pd

from plots import axes, figure, names, style
from plots.axes import LogScale, Quantity
from plots.figure import SHOWN, AbsentError, Entry, Figure, hover, hover_tooltip
from plots.labels import Box, arrange, spread, text_width
from plots.results import SHAPE, Group

_WIDTH, _HEIGHT = 460, 400
_COLUMN = 16  # from the plot to the names beside it
_LINE = 17  # of text
_ADRIFT = 5  # a name so far from its line's end is tied to it
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [12, 4], [4, 4, 1, 4])
_FEW = 6  # lines that a figure has room for without a choice
_CROSS = "M-.6,-.6L.6,.6M-.6,.6L.6,-.6"
FLOOR = "floor"  # the key of the floor's name


@dataclass(frozen=True, eq=False)
class Member:
    """One line: an implementation in one form, from one source."""

    key: str
    names: tuple[str, str, str]  # ever longer, for where another has the shorter one too
    family: str
    role: str
    card: str
    elsewhere: bool
    comparable: bool
    rows: pd.DataFrame  # those that are drawn, in order of x
    lost: pd.Series | None  # the first row beyond them that has no time

    def speed(self, best: pd.Series, over: str) -> float:
        """The mean of the logarithm of its time over the best of its family."""
        ratios = self.rows.set_index(over)["us"] / best
        return ratios.dropna().map(math.log).mean()


@dataclass(frozen=True)
class Curves:
    """`figure` of a module."""

    question: str
    over: str  # "B" or "N"
    quantity: Quantity
    operations: tuple[str, ...]
    at: dict = field(default_factory=dict)  # the sizes that are kept, where they were measured

    def __call__(self, group: Group) -> Figure:
        rows, fixed = self._slice(group)
        members = self._members(group, rows, fixed)
        if not any(not member.elsewhere for member in members):
            raise AbsentError(f"no row of {self._what(group)} has {self.quantity.title}")
        shown = self._defaults(members, group)
        chart = _Chart(self, members, shown, rows, group)
        return Figure(self.question, self._notes(group, fixed, chart), chart.vega(), chart.entries)

    def _what(self, group: Group) -> str:
        return f"{names.operation_words(self.operations[0])} on {group.device}"

    def _slice(self, group: Group) -> tuple[pd.DataFrame, dict]:
        """The rows at the wanted sizes, or else at those that most others were measured at."""
        rows = group.rows[group.rows["operation"].isin(self.operations)]
        rows = rows[rows["params"].map(lambda params: not {"options", "variant"} & params.keys())]
        if rows.empty:
            raise AbsentError(f"the file has no rows of {self._what(group)}")
        own = rows[rows["role"].eq("ours") & rows["operation"].eq(self.operations[0])]
        own = rows if own.empty else own
        kept = [size for size in SHAPE if size != self.over and own[size].notna().any()]
        own = own[own["status"].eq("ok") & own[self.quantity.column].gt(0)]
        if own.empty:
            raise AbsentError(f"no row of {self._what(group)} has {self.quantity.title}")
        own = own.dropna(subset=[self.over, *kept])
        counts = {
            values: count
            for values, of_shape in own.groupby(kept)
            if (count := of_shape[self.over].nunique()) > 1
        }
        if not counts:
            what = "batch sizes" if self.over == "B" else "sequence lengths"
            raise AbsentError(f"{self._what(group)} was not timed at two or more {what}")

        def rank(values):
            wanted = sum(self.at.get(n) == v for n, v in zip(kept, values, strict=True))
            return wanted, counts[values], values

        fixed = dict(zip(kept, max(counts, key=rank), strict=True))
        return self._at(rows, fixed), fixed

    def _members(self, group: Group, rows: pd.DataFrame, fixed: dict) -> list[Member]:
        members = []
        several = len(group.cards) > 1
        for _, of_member in rows.groupby(["operation", "implementation", "extras", "hardware"]):
            member = self._member(of_member, elsewhere=False, several=several)
            members += [member] if member else []
        if group.elsewhere is None or group.device != "cuda" or several:
            return members
        live = {(m.rows.iloc[0]["operation"], m.rows.iloc[0]["implementation"]) for m in members}
        theirs = group.elsewhere
        theirs = theirs[theirs["operation"].isin(self.operations)]
        theirs = theirs[theirs["policy"].isin(["", group.policy])]
        theirs = theirs[theirs["over"].isin(["", self.over])]
        theirs = self._at(theirs, fixed)
        theirs = theirs[theirs[self.over].between(rows[self.over].min(), rows[self.over].max())]
        for named, of_name in theirs.groupby(["operation", "implementation"]):
            if named in live:
                continue
            rank = of_name.apply(lambda row: _distance(row, group), axis=1)
            for _, of_form in of_name[rank.eq(rank.min())].groupby(["extras", "source"]):
                member = self._member(of_form, elsewhere=True, several=False)
                members += [member] if member else []
        return members

    def _member(self, rows: pd.DataFrame, elsewhere: bool, several: bool) -> Member | None:
        rows = rows.sort_values(self.over).drop_duplicates(self.over)
        drawn = rows[rows["status"].eq("ok") & rows[self.quantity.column].gt(0)]
        if drawn.empty:
            return None
        lost = rows[rows["status"].ne("ok") & rows[self.over].gt(drawn[self.over].max())]
        first = drawn.iloc[0]
        card = names.card(first["hardware"])
        where = f", {card}" if several or elsewhere else ""
        parts = [first["operation"], first["implementation"], first["extras"], first["hardware"]]
        return Member(
            key="/".join(parts),
            names=(
                names.words(first, short=True) + where,
                names.words(first) + where,
                names.words(first, names.form_words(first["params"])) + where,
            ),
            family=names.family(first),
            role=first["role"],
            card=card,
            elsewhere=elsewhere,
            comparable=names.comparable(first),
            rows=drawn,
            lost=None if lost.empty else lost.iloc[0],
        )

    def _at(self, rows: pd.DataFrame, fixed: dict) -> pd.DataFrame:
        """Rows at these sizes that have the one varied and no other. An operation that stands
        beside the first may lack one of them, as a scan over channels has no heads."""
        chosen = rows[self.over].notna()
        beside = rows["operation"].ne(self.operations[0])
        for name in SHAPE:
            if name in fixed:
                chosen &= rows[name].eq(fixed[name]) | (rows[name].isna() & beside)
            elif name != self.over:
                chosen &= rows[name].isna()
        return rows[chosen]

    def _defaults(self, members: list[Member], group: Group) -> list[Member]:
        """A family's fastest member, of each card; at most eight, the fastest. All where they are
        few."""
        if len(members) <= _FEW:
            return sorted(members, key=lambda m: (m.role != "ours", m.elsewhere))
        most = max(len(member.rows) for member in members)
        chosen = []
        for card in map(names.card, group.cards) if len(group.cards) > 1 else [None]:
            of_card = [m for m in members if card in (None, m.card)]
            best = pd.concat([m.rows for m in of_card]).groupby(self.over)["us"].min()
            families: dict[str, list[Member]] = {}
            for member in of_card:
                families.setdefault(member.family, []).append(member)
            fastest = [
                min(
                    of_family,
                    key=lambda m: (
                        not m.comparable,
                        2 * len(m.rows) < most,
                        m.speed(best, self.over),
                    ),
                )
                for of_family in families.values()
            ]
            fastest.sort(key=lambda m: (m.family != names.BASED, m.speed(best, self.over)))
            chosen += fastest[: max(1, figure.MOST_SHOWN // len(group.cards))]
        return chosen

    def _notes(self, group: Group, fixed: dict, chart: "_Chart") -> list[str]:
        shape = ", ".join(
            {"H": f"{int(v)} heads", "N": f"{int(v)} tokens", "B": f"batch {int(v)}"}.get(
                name, f"{name} = {int(v)}"
            )
            for name, v in fixed.items()
        )
        marks = [shape]
        if chart.reference is not None and self.quantity is not axes.TFLOPS:
            what = "batch" if self.over == "B" else "length"
            marks.append(f"×: times ours, at the largest {what} of both")
        if any(member.elsewhere for member in chart.shown):
            marks.append("hollow: measured elsewhere, on the card named")
        return [f"{'; '.join(marks)}.", group.caption]


class _Chart:
    """The layers of a Curves' chart."""

    def __init__(self, curves: Curves, members, shown, rows: pd.DataFrame, group: Group):
        self.curves, self.shown, self.several = curves, shown, len(group.cards) > 1
        self.members = shown + [m for m in members if m not in shown]
        self.names = _distinct(self.members, shortest=1)
        self.column = curves.quantity.column
        self.where = "card" if group.device == "cuda" else "CPU"
        self.reference = next((m for m in shown if m.family == names.BASED), None)
        self.floor = self._floor(rows)
        values = [v for m in self.members for v in m.rows[self.column]]
        values += [v for _, v in self.floor]
        self.x = axes.size_scale(
            [v for m in self.members for v in m.rows[curves.over]]
            + [m.lost[curves.over] for m in self.members if m.lost is not None],
            _WIDTH,
        )
        self.y: LogScale = axes.log_scale(
            values, _HEIGHT, base=2 if curves.quantity is axes.MEMORY else 10
        )
        cards = list(dict.fromkeys(map(names.card, group.cards)))
        self.colours, self.dashes = {}, {}
        used: dict[str, int] = {}  # a colour -> how many lines have it
        for member in self.members:
            colour = style.family_colour(member.family)
            if self.several:
                colour = style.CARDS[cards.index(member.card) % len(style.CARDS)]
            self.colours[member.key] = colour
            self.dashes[member.key] = _DASHES[used.get(colour, 0) % len(_DASHES)]
            used[colour] = used.get(colour, 0) + 1
        self.entries = [
            Entry(m.key, self.names[m.key], self.colours[m.key], m in shown) for m in self.members
        ]

    def vega(self) -> alt.LayerChart:
        over, quantity = self.curves.over, self.curves.quantity
        sizes = axes.SIZES[over]
        points = alt.Chart(figure.data(self._points())).transform_filter(SHOWN)
        base = points.encode(
            x=alt.X("x:Q", scale=self.x.vega(), axis=axes.axis(sizes, self.x, grid=False)),
            y=alt.Y("y:Q", scale=self.y.vega(), axis=axes.axis(quantity, self.y)),
            color=alt.Color("colour:N", scale=None),
            detail="key:N",
        )
        lines = base.mark_line(strokeJoin="round").encode(
            strokeWidth=alt.StrokeWidth("width:Q", scale=None),
            strokeDash=alt.StrokeDash("dash", type="nominal", scale=None),
        )
        marks = base.mark_point(filled=False, opacity=1, strokeWidth=1.8).encode(
            fill=alt.Fill("fill:N", scale=None),
            size=alt.Size("size:Q", scale=None),
            tooltip=hover_tooltip(),
        )
        lost = self._layer(self._lost()).encode(x="x:Q", y="y:Q")
        gone = lost.mark_rule(strokeDash=[2, 3], strokeWidth=1.5).encode(x2="from:Q")
        crosses = lost.mark_point(shape=_CROSS, size=110, strokeWidth=2.5, opacity=1).encode(
            tooltip=["name:N", "row:N", "why:N"]
        )
        labels = self._labels()
        ties = self._layer(labels).transform_filter("datum.tied")
        ties = ties.transform_calculate(tx=figure.crowded("tx"), ty=figure.crowded("ty"))
        ties = ties.mark_rule(strokeWidth=0.7, opacity=0.7)
        ties = ties.encode(x="ex:Q", y="ey:Q", x2="tx:Q", y2="ty:Q")
        texts = self._layer(labels)
        texts = texts.transform_calculate(
            tx=figure.crowded("tx"), ty=figure.crowded("ty"), text=figure.crowded("text")
        )
        texts = texts.mark_text(align="left", baseline="middle", dx=4, lineBreak="\n").encode(
            x="tx:Q", y="ty:Q", text="text:N"
        )
        layers = [lines, ties, gone, marks, crosses, texts]
        if self.floor:
            layers.insert(0, self._floor_line())
        return alt.layer(*layers).properties(width=_WIDTH, height=_HEIGHT)

    def _layer(self, records: list[dict]) -> alt.Chart:
        chart = alt.Chart(figure.data(records))
        chart = chart.transform_filter(f"datum.key == '{FLOOR}' || {SHOWN}")
        return chart.encode(color=alt.Color("colour:N", scale=None))

    def _floor(self, rows: pd.DataFrame) -> list[tuple[float, float]]:
        """The least time at each size, as our own rows tell it: (size, time)."""
        if self.curves.quantity is not axes.TIME or self.several:
            return []
        own = rows[rows["role"].eq("ours") & rows["operation"].eq(self.curves.operations[0])]
        own = own[own["floor_us"].gt(0)]
        if self.reference is not None:  # in the form that is shown
            own = own[own["extras"].eq(self.reference.rows.iloc[0]["extras"])]
        least = own.groupby(self.curves.over)["floor_us"].min()
        return list(least.items()) if len(least) > 1 else []

    def _floor_line(self) -> alt.Chart:
        records = [{"x": x, "y": y} for x, y in self.floor]
        chart = alt.Chart(figure.data(records)).mark_line(
            strokeDash=[5, 4], strokeWidth=1.6, color=style.PALE
        )
        return chart.encode(x="x:Q", y="y:Q")

    def _points(self) -> list[dict]:
        return [
            {
                "key": member.key,
                "x": row[self.curves.over],
                "y": row[self.column],
                "colour": self.colours[member.key],
                "fill": style.PAPER if member.elsewhere else self.colours[member.key],
                "width": self._width(member),
                "size": 60 if member.role == "ours" else 42,
                "dash": self.dashes[member.key],
                "name": self.names[member.key],
                "row": row["key"],
                **hover(row),
            }
            for member in self.members
            for _, row in member.rows.iterrows()
        ]

    def _width(self, member: Member) -> float:
        return 4.5 if member is self.reference or (self.several and member.role == "ours") else 1.8

    def _lost(self) -> list[dict]:
        found = []
        for member in self.members:
            if member.lost is not None:
                last = member.rows.iloc[-1]
                found.append(
                    {
                        "key": member.key,
                        "x": member.lost[self.curves.over],
                        "from": last[self.curves.over],
                        "y": last[self.column],
                        "colour": self.colours[member.key],
                        "name": self.names[member.key],
                        "row": member.lost["key"],
                        "why": _why(member.lost),
                    }
                )
        return found

    def _labels(self) -> list[dict]:
        named = _distinct(self.shown, shortest=0)
        texts_all = {m.key: self._text(m, self.names) for m in self.members}
        texts = texts_all | {m.key: self._text(m, named) for m in self.shown}
        ends = {m.key: self._line(m)[-1] for m in self.members}
        always = []
        if self.floor:
            always = [FLOOR]
            texts[FLOOR] = texts_all[FLOOR] = f"least possible on this {self.where}"
            size, time = self.floor[-1]
            ends[FLOOR] = (self.x.pixel(size), self.y.pixel(time))
        first = self._positions([m.key for m in self.shown] + always, ends, texts)
        every = self._positions(list(ends), ends, texts_all)
        records = []
        for key, (x, y) in ends.items():
            at, at_all = first.get(key, every[key]), every[key]
            records.append(
                {
                    "key": key,
                    "text": texts[key],
                    "text_all": texts_all[key],
                    "colour": self.colours.get(key, style.PALE),
                    "tied": x > _WIDTH - 1 and max(abs(at[1] - y), abs(at_all[1] - y)) > _ADRIFT,
                    "ex": self.x.value(x),
                    "ey": self.y.value(y),
                    "tx": self.x.value(at[0]),
                    "ty": self.y.value(at[1]),
                    "tx_all": self.x.value(at_all[0]),
                    "ty_all": self.y.value(at_all[1]),
                }
            )
        return records

    def _positions(
        self, keys: list[str], ends: dict[str, tuple[float, float]], texts: dict[str, str]
    ) -> dict[str, tuple[float, float]]:
        """Where each name begins, in pixels: beside the plot, or behind a line that ends in it."""
        beside = [key for key in keys if ends[key][0] > _WIDTH - 1]
        placed = spread([ends[key][1] for key in beside], _LINE, 0, _HEIGHT)
        found = {key: (_WIDTH + _COLUMN, y) for key, y in zip(beside, placed, strict=True)}
        taken = [Box(_WIDTH, y - _LINE / 2, 2 * _WIDTH, y + _LINE / 2) for y in placed]
        within = [key for key in keys if key not in found]
        lost = {m.key: m.lost for m in self.members if m.lost is not None and m.key in within}
        anchors = []
        for key in within:
            x, y = ends[key]
            if key in lost:
                x = self.x.pixel(lost[key][self.curves.over]) + 4
                taken.append(Box(ends[key][0], y - 6, x, y + 6))
            anchors.append((x, y))
        for member in self.members:
            if member.key in keys:
                taken += _along(self._line(member))
        sizes = []
        for key in within:
            rows = texts[key].split("\n")
            width = max(text_width(row, figure.TEXT_SIZE) for row in rows)
            sizes.append((width + 8, _LINE * len(rows)))
        room = Box(0, -_LINE, _WIDTH + _COLUMN + 220, _HEIGHT)
        for key, box in zip(within, arrange(anchors, sizes, taken, room), strict=True):
            # Vega centres the first of several lines.
            found[key] = (box.left, box.top + _LINE / 2)
        return found

    def _line(self, member: Member) -> list[tuple[float, float]]:
        rows = member.rows
        return [
            (self.x.pixel(x), self.y.pixel(y))
            for x, y in zip(rows[self.curves.over], rows[self.column], strict=True)
        ]

    def _text(self, member: Member, named: dict[str, str]) -> str:
        """The name, the ratio to ours, and why the line ends."""
        text, quantity = named[member.key], self.curves.quantity
        own = member.rows.set_index(self.curves.over)[self.column]
        if quantity is axes.TFLOPS:
            text += f"  {style.significant(own.iloc[-1])}"
        elif self.reference is not None and member is not self.reference:
            ratios = own / self.reference.rows.set_index(self.curves.over)[self.column]
            ratios = ratios.dropna()
            if not ratios.empty:
                text += f"  {style.ratio_text(ratios.iloc[-1])}"
        if member.lost is not None:
            text += f"\n{_why(member.lost, short=True)}"
        return text


def _distinct(members: list[Member], shortest: int) -> dict[str, str]:
    """The shortest names of these that tell them apart."""
    found = {}
    for member in members:
        for level in range(shortest, 3):
            found[member.key] = member.names[level]
            if [m.names[level] for m in members].count(found[member.key]) == 1:
                break
    return found


def _distance(row: pd.Series, group: Group) -> int:
    """How far a row of elsewhere is from one measured here."""
    if row["hardware"] in group.cards:
        return 0
    return 1 if row["exact"] else 2


def _along(line: list[tuple[float, float]]) -> list[Box]:
    """Small boxes on a line, which no name shall cover."""
    found = []
    for (x0, y0), (x1, y1) in itertools.pairwise(line):
        for step in range(8):
            x, y = x0 + (x1 - x0) * step / 8, y0 + (y1 - y0) * step / 8
            found.append(Box(x - 4, y - 4, x + 4, y + 4))
    return found


def _why(row: pd.Series, short: bool = False) -> str:
    """Why a row has no time, with the bytes that it would have needed."""
    needs = row["needs_bytes"]
    if row["status"] == "out_of_memory":
        bytes_text = "" if math.isnan(needs) else f": {style.memory_text(needs / 2**20)}"
        return f"out of memory{bytes_text}"
    if short:
        return row["status"]
    return f"{row['status']}: {names.shortened(row['reason'], 90)}"
