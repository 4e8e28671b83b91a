"""Writes or checks tests/data/parity/sampling.json: what Hugging Face transformers' logits warpers keep.

    python tests/parity/sampling_vectors.py            # write the file
    python tests/parity/sampling_vectors.py --check    # compare it with the installed transformers

Needs torch and transformers. Each case holds a row of logits, the options, the tokens that are left with their
probabilities (most probable first, ties by id), and log-probabilities and entropy as TRL computes them from
logits / temperature over the whole vocabulary.
"""

import argparse
import json
import math
import random
import sys
from pathlib import Path

import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

FILE = Path(__file__).resolve().parents[1] / "data" / "parity" / "sampling.json"

OPTIONS = [
    dict(temperature=1.0),
    dict(temperature=0.7),
    dict(temperature=1.0, top_k=5),
    dict(temperature=1.0, top_k=1),
    dict(temperature=1.0, top_p=0.9),
    dict(temperature=1.0, top_p=0.3),
    dict(temperature=1.0, min_p=0.1),
    dict(temperature=1.3, top_k=12, top_p=0.8),
    dict(temperature=0.8, top_k=20, top_p=0.95, min_p=0.05),
    dict(temperature=2.0, top_p=0.5, min_p=0.6),
]


def warpers(options):
    # In the order of GenerationMixin._get_logits_processor.
    chain = LogitsProcessorList()
    if options["temperature"] != 1.0:
        chain.append(TemperatureLogitsWarper(options["temperature"]))
    if "top_k" in options:
        chain.append(TopKLogitsWarper(options["top_k"]))
    if "top_p" in options:
        chain.append(TopPLogitsWarper(options["top_p"]))
    if "min_p" in options:
        chain.append(MinPLogitsWarper(options["min_p"]))
    return chain


def case(logits, options):
    row = torch.tensor([logits], dtype=torch.float64)
    kept = warpers(options)(None, row.clone()).softmax(-1)[0]
    tokens = [token for token in range(len(logits)) if kept[token] > 0]
    tokens.sort(key=lambda token: (-logits[token], token))
    logps = (row / options["temperature"]).log_softmax(-1)[0]
    return {
        "options": options,
        "logits": logits,
        "kept": tokens,
        "probabilities": [round(kept[token].item(), 9) for token in tokens],
        "logps": [round(logp, 7) for logp in logps.tolist()],
        "entropy": round(-(logps.exp() * logps).sum().item(), 7),
    }


def cases():
    numbers = random.Random(20)
    made = []
    for size, spread in [(7, 2.0), (40, 3.0), (300, 5.0)]:
        # Few digits: exact in single precision too.
        logits = [round(numbers.gauss(0, spread) * 256) / 256 for _ in range(size)]
        if size == 300:
            # No ties: transformers does not say which of them top-p keeps.
            while len(set(logits)) < size:
                logits = [round(numbers.gauss(0, spread) * 4096) / 4096 for _ in range(size)]
        for options in OPTIONS:
            made.append(case(logits, options))
    # Ties with the k-th stay.
    made.append(case([1.0, 3.0, 1.0, 1.0, 0.0], dict(temperature=1.0, top_k=2)))
    return made


def same(a, b):
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return a == b


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    live = cases()
    if parser.parse_args().check:
        frozen = json.loads(FILE.read_text())
        wrong = [i for i, (a, b) in enumerate(zip(frozen, live)) if not same(a, b)]
        if len(frozen) != len(live) or wrong:
            sys.exit(f"{FILE.name} differs from transformers: {len(frozen)} and {len(live)} cases, unequal: {wrong}")
        print(f"{len(live)} cases agree")
    else:
        FILE.parent.mkdir(parents=True, exist_ok=True)
        FILE.write_text("[\n" + ",\n".join(json.dumps(made) for made in live) + "\n]\n")
        print(f"{len(live)} cases written to {FILE}")


if __name__ == "__main__":
    main()
