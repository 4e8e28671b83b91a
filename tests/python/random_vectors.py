"""Prints what CPython's random numbers are for some seeds: {"seed", "draws": [[method, arguments, value], ...]} a line."""

import json
import random

SEEDS = [0, 1, 141053, 200191, 1053520, 4294967295, 4294967296, 2**64 + 12345, 10**40, 20260323]
CALLS = [
    ("getrandbits", [32]),
    ("random", []),
    ("randint", [10000, 99999]),
    ("randint", [1000000, 9999999]),
    ("randint", [100000000, 999999999]),
    ("randint", [100000000000, 999999999999]),
    ("randint", [0, 86400]),
    ("randint", [5, 5]),
    ("uniform", [-10.0, 40.0]),
    ("uniform", [0, 120]),
    ("getrandbits", [1]),
    ("getrandbits", [53]),
    ("getrandbits", [70]),
]


def main():
    for seed in SEEDS:
        source = random.Random(seed)
        draws = [[name, arguments, getattr(source, name)(*arguments)] for name, arguments in CALLS * 3]
        # Numbers as text: some are longer than JSON readers like.
        draws = [[name, arguments, repr(value)] for name, arguments, value in draws]
        print(json.dumps({"seed": str(seed), "draws": draws}))


if __name__ == "__main__":
    main()
