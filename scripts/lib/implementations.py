"""Names of implementations, from `based_bench --describe` on standard input.

usage: implementations.py [KEY=VALUE...]

KEY is operation, device or role. Prints a line for each implementation that fits: its operation and
its name.
"""

import json
import sys


def main():
    wanted = dict(argument.split("=", 1) for argument in sys.argv[1:])
    for operation in json.load(sys.stdin)["operations"]:
        for implementation in operation["implementations"]:
            known = implementation | {"operation": operation["name"]}
            if all(known[key] == value for key, value in wanted.items()):
                print(operation["name"], implementation["name"])


if __name__ == "__main__":
    main()
