"""Frozen vectors: written once, compared with what the installed libraries give now."""

import argparse
import json
import math
import sys
from importlib.metadata import version
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "data" / "parity"


def versions(*packages):
    """What the vectors were made with, as `{package: version}`."""
    return {package: version(package) for package in packages}


def differences(frozen, live, where="", tolerance=1e-6):
    """Where two JSON values differ: numbers by more than the tolerance (relative above 1), all else at all."""
    if isinstance(frozen, float) or isinstance(live, float):
        numbers = all(isinstance(value, (int, float)) for value in (frozen, live))
        if not numbers or not math.isclose(frozen, live, rel_tol=tolerance, abs_tol=tolerance):
            yield f"{where}: frozen {frozen!r}, live {live!r}"
    elif isinstance(frozen, dict) and isinstance(live, dict):
        if frozen.keys() != live.keys():
            yield f"{where}: frozen keys {sorted(frozen)}, live keys {sorted(live)}"
        for key in frozen.keys() & live.keys():
            yield from differences(frozen[key], live[key], f"{where}.{key}", tolerance)
    elif isinstance(frozen, list) and isinstance(live, list):
        if len(frozen) != len(live):
            yield f"{where}: {len(frozen)} entries frozen, {len(live)} live"
        for index, pair in enumerate(zip(frozen, live)):
            yield from differences(*pair, f"{where}[{index}]", tolerance)
    elif frozen != live:
        yield f"{where}: frozen {frozen!r}, live {live!r}"


def plain(value):
    """Tensors as lists, and floats with the nine digits that say all of an f32."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return value


def write(file, value):
    """Writes JSON with a line for each entry of the lists at the top."""
    lines = []
    for key, part in plain(value).items():
        if isinstance(part, list):
            entries = ",\n".join(json.dumps(entry) for entry in part)
            lines.append(f"{json.dumps(key)}: [\n{entries}\n]")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(part)}")
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def arguments(description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the frozen file instead of writing it")
    return parser


def check(file, live, tolerance=1e-6):
    """Compares the frozen file with live values; says what differs and ends the program with 1 if anything does."""
    frozen = json.loads(file.read_text())
    made_with, now = frozen.pop("versions"), dict(live)
    installed = now.pop("versions")
    if made_with != installed:
        print(f"{file.name} was made with {made_with}; here are {installed}")
    found = list(differences(frozen, plain(now), tolerance=tolerance))
    for line in found[:20]:
        print(f"{file.name}{line}")
    if found:
        print(f"{file.name}: {len(found)} differences from what {installed} give now")
        sys.exit(1)
    print(f"{file.name}: nothing differs from what {installed} give now")


def check_logits(ours, theirs, said):
    """Compares the engine's logits with a library's tensors, by sequence; ends the program with 1 beyond 1e-4."""
    import torch

    worst = max((torch.tensor(a) - b).abs().max().item() for a, b in zip(ours, theirs, strict=True))
    print(f"{said}; logits differ by {worst:.1e} at most")
    # Not `worst > 1e-4`: that is false for NaN.
    if not worst <= 1e-4:
        sys.exit(1)
