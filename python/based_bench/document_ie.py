"""The Based paper's recall tasks: what a model reads out of documents, and how fast.

    python -m based_bench.document_ie --model DIR --data fda|swde|squad|FILE.jsonl

Each example is a document, a key, and the value that the document gives for this key. The prompt is
a window of the document around the value, then ". " and the key. The model continues it greedily,
and is right where its lower-case answer begins with the value. Prompts of a batch are padded on the
left with blanks, which the model reads, as in the sources' demo (ThunderKittens,
demos/based/document_ie_based.py). Unlike in the demo, all examples count, not only the first ones.
A line of FILE.jsonl is an object with the texts "text", "key" (or "question") and "value".
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

DATA = {
    "fda": "hazyresearch/based-fda",
    "swde": "hazyresearch/based-swde",
    "squad": "hazyresearch/based-squad",
}
WINDOW, NEW_TOKENS, BATCH = 1500, 48, 64
PAD = " "


@dataclass(frozen=True)
class Example:
    text: str
    key: str
    value: str
    is_question: bool = False  # a sentence to be continued, without ":" after it


@dataclass(frozen=True)
class Answer:
    example: Example
    text: str

    @property
    def right(self) -> bool:
        return self.text.lower().strip().startswith(self.example.value.lower().strip())


class DataError(Exception):
    """The examples cannot be read; the message is one line."""


def examples(data: str) -> list[Example]:
    """The examples of a task's validation set, or of a file with a JSON object a line."""
    if data in DATA:
        try:
            from datasets import load_dataset
        except ImportError:
            raise DataError(
                f"--data {data} is read by the package datasets: pip install datasets"
            ) from None
        rows = load_dataset(DATA[data])["validation"]
        return [_example(row, f"{data}, example {i}") for i, row in enumerate(rows)]
    path = Path(data)
    if not path.is_file():
        raise DataError(f"--data {data} is no file and none of {', '.join(DATA)}")
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{data}, line {number}: is no JSON ({error})") from None
            found.append(_example(row, f"{data}, line {number}"))
    if not found:
        raise DataError(f"{data}: holds no example")
    return found


def _example(row: dict, where: str) -> Example:
    row = row if isinstance(row, dict) else {}
    is_question = "question" in row
    values = [row.get(n) for n in ("text", "question" if is_question else "key", "value")]
    values = [value[0] if isinstance(value, list) and value else value for value in values]
    if not all(isinstance(value, str) and value.strip() for value in values):
        raise DataError(f"{where}: wants the texts 'text', 'key' or 'question', and 'value'")
    return Example(*values, is_question=is_question)


def prompt(example: Example, tokenizer, window: int = WINDOW) -> str:
    """The window of the document around the value, at most `window` tokens, and the key."""
    text, key = example.text.strip().strip("."), example.key
    for ending in (key, f"{key}:"):
        if text.lower().endswith(ending.lower()):
            text = text[: -len(ending)]
            break
    match = re.search(re.escape(example.value), text, re.IGNORECASE)
    # Without a match the sources cut the last character off and look around the end.
    before = text[: match.start()] if match else text[:-1]
    at = len(tokenizer.encode(before).ids)
    tokens = tokenizer.encode(text).ids
    first = max(0, at - window // 2)
    shown = tokenizer.decode(tokens[first : min(len(tokens), first + window)])
    asked = key[0].upper() + key[1:]
    return f"{shown}. {asked}" if example.is_question else f"{shown}. {asked}:"


def batches(
    chosen: Sequence[Example], tokenizer, batch: int, window: int = WINDOW
) -> Iterator[tuple[Sequence[Example], list[list[int]]]]:
    """Batches of examples with their prompts' ids, padded on the left to the longest."""
    (pad,) = tokenizer.encode(PAD).ids
    for first in range(0, len(chosen), batch):
        part = chosen[first : first + batch]
        ids = [tokenizer.encode(prompt(example, tokenizer, window)).ids for example in part]
        longest = max(map(len, ids))
        yield part, [[pad] * (longest - len(each)) + each for each in ids]


def answers(
    chosen: Sequence[Example],
    tokenizer,
    generate: Callable[[list[list[int]], int], list[list[int]]],
    batch: int = BATCH,
    window: int = WINDOW,
    new_tokens: int = NEW_TOKENS,
    progress: Callable[[int, int, float], None] = lambda done, right, seconds: None,
) -> tuple[list[Answer], float]:
    """All answers, and the seconds that all calls of `generate` took; it takes ids, [B, N], and the
    number of tokens, and returns the new tokens of each sequence."""
    found: list[Answer] = []
    seconds = 0.0
    for part, ids in batches(chosen, tokenizer, batch, window):
        started = time.perf_counter()
        tokens = generate(ids, new_tokens)
        seconds += time.perf_counter() - started
        found += [
            Answer(example, tokenizer.decode(new))
            for example, new in zip(part, tokens, strict=True)
        ]
        progress(len(found), sum(answer.right for answer in found), seconds)
    return found, seconds


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m based_bench.document_ie",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--model", required=True, metavar="DIR|NAME", help="as for based_bench.generate"
    )
    parser.add_argument("--data", required=True, metavar="|".join([*DATA, "FILE.jsonl"]))
    for name, default, what in (
        ("batch", BATCH, "sequences that are generated together"),
        ("window", WINDOW, "tokens of the document that a prompt has at most"),
        ("new-tokens", NEW_TOKENS, "tokens of an answer"),
        ("limit", 0, "examples, from the first on; 0: all"),
    ):
        parser.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{what}; default: {default}"
        )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: a GPU where one is")
    parser.add_argument("--out", metavar="FILE.jsonl", help="write each answer there")
    args = parser.parse_args(arguments)
    for name in ("batch", "window", "new_tokens"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')}: want at least 1, got {getattr(args, name)}")
    if args.limit < 0:
        parser.error(f"--limit: want at least 0, got {args.limit}")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    from based_bench.models import ModelError, load

    try:
        chosen = examples(args.data)[: args.limit or None]
        model = load(args.model, args.device)
    except (DataError, ModelError) as error:
        print(error, file=sys.stderr)
        return 2

    def progress(done: int, right: int, seconds: float) -> None:
        print(
            f"  {done} of {len(chosen)}: {100 * right / done:.2f} % right, {seconds:.1f} s",
            file=sys.stderr,
            flush=True,
        )

    try:
        found, seconds = answers(
            chosen,
            model.tokenizer,
            model.generate,
            args.batch,
            args.window,
            args.new_tokens,
            progress,
        )
    except ModelError as error:
        print(error, file=sys.stderr)
        return 1
    if args.out:
        lines = [
            json.dumps(
                {
                    "key": answer.example.key,
                    "value": answer.example.value,
                    "answer": answer.text,
                    "right": answer.right,
                }
            )
            for answer in found
        ]
        Path(args.out).write_text("\n".join(lines) + "\n", encoding="utf-8")
    right = sum(answer.right for answer in found)
    print(
        f"{model.name} on {args.data}: {100 * right / len(found):.2f} % of {len(found)} right, "
        f"{seconds:.2f} s in generation"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
