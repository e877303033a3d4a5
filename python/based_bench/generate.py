"""Text from a model, greedily: each new token is the most likely one.

    python -m based_bench.generate --model DIR "prompt" ...

DIR is a folder that scripts/convert_checkpoint wrote. In its place a name such as owner/model makes
the package huggingface_hub download a repository with such a folder's files; the published
repositories have others, and have to be converted first. The tokenizer is the folder's
tokenizer.json, or else GPT-2's, with which the published models were trained.
"""

import argparse
import sys
import time
from collections.abc import Sequence


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m based_bench.generate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("prompts", nargs="+", metavar="PROMPT", help="each is continued by itself")
    parser.add_argument("--model", required=True, metavar="DIR|NAME", help="as above")
    parser.add_argument(
        "--new-tokens", type=int, default=32, metavar="N", help="after each prompt; default: 32"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: a GPU where one is")
    args = parser.parse_args(arguments)
    if args.new_tokens < 1:
        parser.error(f"--new-tokens: want at least 1, got {args.new_tokens}")
    if not all(args.prompts):
        parser.error("PROMPT: an empty text has no token to go on from")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    from based_bench.models import ModelError, load

    try:
        model = load(args.model, args.device)
        for prompt in args.prompts:
            ids = model.tokenizer.encode(prompt).ids
            started = time.perf_counter()
            (new,) = model.generate([ids], args.new_tokens)
            seconds = time.perf_counter() - started
            print(prompt + model.tokenizer.decode(new), flush=True)
            print(f"  {len(ids)} tokens read, {len(new)} new: {seconds:.3f} s", file=sys.stderr)
    except ModelError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
