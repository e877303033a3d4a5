"""The command line: `python -m plots render | table | report | compare | merge | readme`."""

import argparse
import importlib
import pkgutil
import re
import sys
from pathlib import Path

import vl_convert

import plots
from plots import compare, merge, published, readme, report, results, table
from plots.figure import AbsentError, Figure
from plots.files import UsageError, ready_folder, refuse_input, write_whole

_FIGURE_PREFIX = "figure_"
_WIDEST, _SHARPEST = 1600, 2.0  # of a picture: pixels, and pixels a CSS pixel


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise UsageError(message.replace("\n", " ") + f"; see {self.prog} --help")


def main(arguments: list[str]) -> int:
    """Run one command: 0 done, 1 `compare` found a regression or `readme --check` a difference, 2
    bad usage."""
    for stream in (sys.stdout, sys.stderr):  # whatever the locale; a stand-in may not have it
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        options = _parser().parse_args(arguments)
        return options.run(options)
    except UsageError as error:
        print(f"plots: {error}", file=sys.stderr)
        return 2


def figure_names() -> list[str]:
    """Every figure in the order of the questions: the modules figure_<name>.py of this package."""
    found = (module.name for module in pkgutil.iter_modules(plots.__path__))
    names = [n.removeprefix(_FIGURE_PREFIX) for n in found if n.startswith(_FIGURE_PREFIX)]
    return sorted(names, key=lambda name: (_module(name).ORDER, name))


def build(name: str, group: results.Group) -> Figure:
    """The figure `name` of a group's rows; AbsentError where they do not give it."""
    return _module(name).figure(group)


def _module(name: str):
    return importlib.import_module(f"plots.{_FIGURE_PREFIX}{name}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m plots", description="Figures, tables and comparisons.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    render = commands.add_parser("render", help="draw the figures as <name>-<device>.png and .svg")
    _add_results(render)
    render.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to")
    render.add_argument(
        "--figure",
        action="append",
        metavar="NAME",
        help=f"only this one; may be repeated: {', '.join(figure_names())}",
    )
    _add_published(render)
    _add_device(render)
    render.set_defaults(run=_render)

    summary = commands.add_parser("table", help="the results as a Markdown table")
    _add_results(summary)
    _add_device(summary)
    summary.add_argument("--out", type=Path, metavar="FILE", help="where to (default: the screen)")
    summary.set_defaults(run=_table)

    interactive = commands.add_parser("report", help="all of it as one self-contained HTML file")
    _add_results(interactive)
    interactive.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to")
    _add_published(interactive)
    _add_device(interactive)
    interactive.set_defaults(run=_report)

    comparison = commands.add_parser(
        "compare",
        help="row by row: is B faster or slower than A?",
        description=compare.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    comparison.add_argument("a", type=Path, metavar="A.json")
    comparison.add_argument("b", type=Path, metavar="B.json")
    comparison.add_argument(
        "--threshold",
        type=_percent,
        default=5.0,
        metavar="P",
        help="exit 1 where a row is slower by more than P percent (default %(default)g)",
    )
    comparison.add_argument(
        "--force", action="store_true", help="compare different devices, policies or work"
    )
    comparison.set_defaults(run=_compare)

    together = commands.add_parser(
        "merge",
        help="put the results of shards and devices into one file",
        description=merge.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_results(together)
    together.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to")
    together.set_defaults(run=_merge)

    tables = commands.add_parser("readme", help="rewrite the measured tables of the READMEs")
    tables.add_argument(
        "files",
        type=Path,
        nargs="*",
        metavar="FILE.md",
        help="default: README.md and those in plots/ and under kernels/, with markers",
    )
    tables.add_argument("--check", action="store_true", help="write nothing; exit 1 on differences")
    tables.add_argument(
        "--data", type=Path, default=published.DATA, metavar="DIR", help="default: plots/data"
    )
    tables.set_defaults(run=_readme)
    return parser


def _add_results(command: argparse.ArgumentParser) -> None:
    command.add_argument("results", type=Path, nargs="+", metavar="RESULTS.json")


def _add_published(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--published", action="store_true", help="lay published points over the same configuration"
    )


def _add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--device",
        action="store_true",
        help="compare the cards of these files: one figure for all, with the card as the colour, "
        "and a table of ratios",
    )


def _groups(options: argparse.Namespace, loaded: results.Results) -> list[results.Group]:
    points = published.load() if getattr(options, "published", False) else None
    found = results.groups(loaded, points, together=options.device)
    if options.device and not any(len(group.cards) > 1 for group in found):
        cards = ", ".join(sorted(set(loaded.rows["hardware"])))
        raise UsageError(f"--device: all rows are of {cards}; give results of several cards")
    return found


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage; give a number of 0 or more")
    return value


def _render(options: argparse.Namespace) -> int:
    known = figure_names()
    for name in options.figure or []:
        if name not in known:
            raise UsageError(f"--figure {name}: no such figure; there are {', '.join(known)}")
    groups = _groups(options, results.load_all(options.results))
    folder = ready_folder(options.out)
    for name in options.figure or known:
        for group in groups:
            try:
                figure = build(name, group)
            except AbsentError as why:
                print(f"not drawn: {name}-{group.tag}: {why}")
                continue
            for path in _draw(figure, folder / f"{name}-{group.tag}"):
                print(path)
    return 0


def _draw(figure: Figure, stem: Path) -> list[Path]:
    """Write the figure as SVG and PNG; their paths."""
    svg = vl_convert.vegalite_to_svg(figure.spec())
    width = float(re.search(r'width="([\d.]+)"', svg)[1])
    png = vl_convert.svg_to_png(svg, scale=min(_SHARPEST, _WIDEST / width))
    written = []
    for suffix, content in ((".png", png), (".svg", svg.encode())):
        path = stem.with_name(stem.name + suffix)
        write_whole(path, lambda partial, content=content: partial.write_bytes(content))
        written.append(path)
    return written


def _table(options: argparse.Namespace) -> int:
    refuse_input(options.out, options.results)
    loaded = results.load_all(options.results)
    if options.device:
        text = "\n\n".join(table.ratios(group) for group in _groups(options, loaded)) + "\n"
    else:
        text = table.markdown(loaded)
    if options.out is None:
        print(text, end="")
    else:
        write_whole(options.out, lambda partial: partial.write_text(text, encoding="utf-8"))
    return 0


def _report(options: argparse.Namespace) -> int:
    refuse_input(options.out / "report.html", options.results)
    loaded = results.load_all(options.results)
    groups = _groups(options, loaded)
    path = ready_folder(options.out) / "report.html"
    text = report.page(groups, loaded.contexts, figure_names(), build)
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))
    print(path)
    return 0


def _compare(options: argparse.Namespace) -> int:
    comparison = compare.compare(
        results.load(options.a), results.load(options.b), options.threshold, options.force
    )
    print(comparison.text(), end="")
    return 1 if comparison.regressions else 0


def _merge(options: argparse.Namespace) -> int:
    refuse_input(options.out, options.results)
    text = merge.merge(options.results)
    write_whole(options.out, lambda partial: partial.write_text(text, encoding="utf-8"))
    return 0


def _readme(options: argparse.Namespace) -> int:
    files = options.files or readme.marked_files(Path(plots.__path__[0]).parent)
    differing = readme.update(files, options.data, options.check)
    for path in differing:
        print(
            f"{path}: {'its tables are not those of the results' if options.check else 'updated'}"
        )
    return 1 if options.check and differing else 0
