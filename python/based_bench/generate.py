"""Text from a model: each new token is the most likely one, or with --temperature a draw.

    python -m based_bench.generate --model DIR "prompt" ...

DIR is a folder that scripts/convert_checkpoint wrote. In its place a name such as owner/model makes
the package huggingface_hub download a repository with such a folder's files; the published
repositories have others, and have to be converted first. The tokenizer is the folder's
tokenizer.json, or else GPT-2's, with which the published models were trained.
"""

import argparse
import math
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
    parser.add_argument(
        "--temperature", type=float, default=0.0, metavar="T", help="of draws; 0: none, the default"
    )
    parser.add_argument(
        "--top-k", type=int, metavar="K", help="draw from the K largest logits; default: from all"
    )
    parser.add_argument("--seed", type=int, metavar="S", help="of the draws; default: 0")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: a GPU where one is")
    args = parser.parse_args(arguments)
    if args.new_tokens < 1:
        parser.error(f"--new-tokens: want at least 1, got {args.new_tokens}")
    if not 0 <= args.temperature < math.inf:
        parser.error(f"--temperature: want a number from 0 on, got {args.temperature}")
    if args.top_k is not None and args.top_k < 1:
        parser.error(f"--top-k: want at least 1, got {args.top_k}")
    if args.seed is not None and not 0 <= args.seed < 2**63:
        parser.error(f"--seed: want from 0 to 2^63 - 1, got {args.seed}")
    if args.temperature == 0 and (args.top_k, args.seed) != (None, None):
        parser.error("--top-k and --seed: of draws, which want a --temperature above 0")
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
            (new,) = model.generate(
                [ids],
                args.new_tokens,
                temperature=args.temperature,
                top_k=args.top_k or 0,
                seed=args.seed or 0,
            )
            seconds = time.perf_counter() - started
            print(prompt + model.tokenizer.decode(new), flush=True)
            print(f"  {len(ids)} tokens read, {len(new)} new: {seconds:.3f} s", file=sys.stderr)
    except ModelError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
