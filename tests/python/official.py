"""Runs trajectories through the official BFCL package, for comparison with parl-mt.

Reads JSON Lines from stdin: {"id": "multi_turn_base_0", "case": any, "turns": [[["call()", ...] per step] per turn]}.
Writes JSON Lines to stdout: first a header that says which Python and package answer, then for each line
{"id", "case", "valid", "error_type", "execution": [[result, ...] per turn], "state"?: {class: {attribute: repr}},
"timeout"?: true, "outside"?: [why, ...]}.
"state" is the model's, after all turns; it is absent if no call was made.
"outside" names the deviations that calls of the line touch: there the answers need not agree.

The package's own executor and checker do the work. What is changed around them, each matching an entry of
engine/docs/deviations.md:
- every line gets new instances (a model name of its own), and they are dropped afterwards;
- `eval` sees the instances and nothing else: no builtins, no modules of the executor;
- default lists of methods and the constants of long_context.py are fresh for each use;
- a call that runs longer than --call-seconds, or asks for too much memory, gives up the line ("timeout": true).
`--unpatched` leaves those changes out, except for the new instances: to measure what the deviations come to.
"""

import argparse
import ast
import builtins
import copy
import decimal
import importlib
import inspect
import json
import platform
import re
import resource
import signal
import sys
import warnings
from datetime import datetime

warnings.simplefilter("ignore")

CATEGORIES = ["base", "miss_func", "miss_param", "long_context"]
# Other categories' classes, which need packages of their own.
OTHER_CLASSES = {"WebSearchAPI", "MemoryAPI_kv", "MemoryAPI_vector", "MemoryAPI_rec_sum"}


class GaveUp(BaseException):
    """A call took too long. Not an `Exception`, so that the executor does not take it for the call's own."""


def load_tasks(root):
    """Task entries with their ground truth, by id."""
    tasks = {}
    for category in CATEGORIES:
        name = f"BFCL_v4_multi_turn_{category}.json"
        with open(root / "data" / name) as questions:
            for line in questions:
                entry = json.loads(line)
                tasks[entry["id"]] = entry
        with open(root / "data" / "possible_answer" / name) as answers:
            for line in answers:
                entry = json.loads(line)
                tasks[entry["id"]]["ground_truth"] = entry["ground_truth"]
    return tasks


def load_own_tasks(path):
    """Tasks of a file of ours, by id."""
    with open(path) as lines:
        entries = [json.loads(line) for line in lines if line.strip()]
    return {entry["id"]: entry for entry in entries}


def why_not_literal(node):
    """What in an argument is no literal that parl-mt holds."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, (bytes, complex)) or node.value is ...:
            return f"a literal of type {type(node.value).__name__}"
        if isinstance(node.value, str) and any("\ud800" <= c <= "\udfff" for c in node.value):
            return "a lone surrogate"
        return None
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        inner = node.operand
        if isinstance(inner, ast.Constant) and type(inner.value) in (int, float, bool):
            return None
        return "an operator"
    if isinstance(node, (ast.List, ast.Tuple)):
        return next(filter(None, map(why_not_literal, node.elts)), None)
    if isinstance(node, ast.Dict):
        if None in node.keys:
            return "unpacking"
        return next(filter(None, map(why_not_literal, node.keys + node.values)), None)
    return f"an expression ({type(node).__name__})"


class Shown(str):
    """A text that is its own repr."""

    __repr__ = str.__str__


def plain(value):
    """A state without objects: files and directories in the shape of scenarios."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(plain, value))
    if isinstance(value, set):
        return Shown("{" + ", ".join(map(repr, sorted(value, key=repr))) + "}" if value else "set()")
    if type(value).__name__ == "Directory":
        return {"type": "directory", "contents": plain(value.contents)}
    if type(value).__name__ == "File":
        return {"type": "file", "content": value.content}
    return value


def state_of(instances):
    """What the checker compares, each attribute's repr by class and name."""
    state = {}
    for class_name, instance in instances.items():
        public = {name: value for name, value in vars(instance).items() if not name.startswith("_")}
        if class_name == "GorillaFileSystem":
            public["root"] = {instance.root.name: instance.root}
        state[class_name] = {name: repr(plain(value)) for name, value in public.items()}
    return state


REWRITTEN = re.compile(r"\b([a-zA-Z_]\w*)\s*(?=\()")


def why_outside(text, methods):
    """Which deviation a call touches, if any."""
    if "\\N{" in text:
        return "a character by name"
    try:
        tree = compile(text.lstrip(" \t"), "<string>", "eval", ast.PyCF_ONLY_AST).body
    except Exception:
        tree = None
    if tree is not None:
        if isinstance(tree, ast.Call):
            if not isinstance(tree.func, ast.Name):
                return "a call of something that is no name"
            parts = tree.args + [keyword.value for keyword in tree.keywords]
            if any(keyword.arg is None for keyword in tree.keywords):
                return "unpacking"
            if tree.func.id in dir(builtins):
                return "a Python builtin"
        elif isinstance(tree, ast.Name):
            if tree.id in dir(builtins):
                return "a Python builtin"
            parts = []
        else:
            parts = [tree]
        for reason in map(why_not_literal, parts):
            if reason:
                return reason
    # The executor's rewriting of names, beyond the name of the call itself.
    for index, match in enumerate(REWRITTEN.finditer(text)):
        is_own_name = index == 0 and not text[: match.start()].strip()
        if not is_own_name and match.group(1) in methods:
            return "a method's name before a bracket inside the call"
    return None


class Peer:
    """The official executor and checker, made to repeat."""

    def __init__(self, unpatched=False, call_seconds=5):
        from bfcl_eval.constants.executable_backend_config import CLASS_FILE_PATH_MAPPING
        from bfcl_eval.eval_checker.multi_turn_eval import multi_turn_checker, multi_turn_utils
        from bfcl_eval.eval_checker.multi_turn_eval.func_source_code import (
            posting_api,
            travel_booking,
            vehicle_control,
        )

        self.utils = multi_turn_utils
        self.checker = multi_turn_checker
        self.call_seconds = call_seconds
        self.runs = 0
        self.record = None
        self.model_instances = {}
        self.with_state = True
        self.methods = {
            name
            for class_name, module_name in CLASS_FILE_PATH_MAPPING.items()
            if class_name not in OTHER_CLASSES
            for name, method in inspect.getmembers(getattr(importlib.import_module(module_name), class_name))
            if inspect.isfunction(method) and not name.startswith("_")
        }
        self.official_execute = multi_turn_utils.execute_multi_turn_func_call
        multi_turn_checker.execute_multi_turn_func_call = self.execute
        if unpatched:
            return

        post_tweet = posting_api.TwitterAPI.post_tweet
        utils_globals = vars(multi_turn_utils)

        def evaluate(text):
            post_tweet.__defaults__ = ([], [])
            names = {name: value for name, value in utils_globals.items() if name.endswith("_instance")}
            names["__builtins__"] = {}
            return eval(text, names)

        # A global of this name hides the builtin from the executor.
        multi_turn_utils.eval = evaluate

        pristine = {
            (module, name): copy.deepcopy(getattr(module, name))
            for module, name in [
                (travel_booking, "CREDIT_CARD_EXTENSION"),
                (travel_booking, "BOOKING_RECORD_EXTENSION"),
                (vehicle_control, "LONG_WEATHER_EXTENSION"),
            ]
        }
        load_scenario = travel_booking.TravelAPI._load_scenario

        def load_with_fresh_constants(instance, scenario, long_context=False):
            if long_context:
                for (module, name), value in pristine.items():
                    setattr(module, name, copy.deepcopy(value))
            load_scenario(instance, scenario, long_context)

        travel_booking.TravelAPI._load_scenario = load_with_fresh_constants

    def execute(self, *arguments, **options):
        """The official executor, which also keeps the model's results."""
        results, instances = self.official_execute(*arguments, **options)
        if self.record is not None and not options["model_name"].endswith("_ground_truth"):
            self.record.append(results)
            self.model_instances = instances
        return results, instances

    def run(self, task, turns):
        """What the official runner makes of decoded turns: (valid, error_type, execution, state)."""
        self.runs += 1
        model_name = f"model{self.runs}"
        decimal.setcontext(decimal.Context())
        decoded = [[step for step in steps if not self.utils.is_empty_execute_response(step)] for steps in turns]
        ground_truth = task["ground_truth"]
        category = task["id"].rsplit("_", 1)[0]
        self.record = []
        self.model_instances = {}
        try:
            if len(turns) != len(ground_truth):
                valid, error_type = False, "multi_turn:force_terminated"
            else:
                verdict = self.checker.multi_turn_checker(decoded, ground_truth, task, category, model_name)
                valid, error_type = verdict["valid"], verdict.get("error_type")
            # The checker stops at the first turn that fails; the calls after it are executed all the same.
            steps = [step for steps in decoded for step in steps]
            for step in steps[len(self.record) :]:
                self.execute(
                    func_call_list=step,
                    initial_config=task["initial_config"],
                    involved_classes=task["involved_classes"],
                    model_name=model_name,
                    test_entry_id=task["id"],
                    long_context="long_context" in category or "composite" in category,
                    is_evaL_run=True,
                )
            results = iter(self.record)
            execution = [[text for _ in steps for text in next(results)] for steps in decoded]
            try:
                state = state_of(self.model_instances)
            except RecursionError:
                # A directory that was moved into itself has no end.
                state = None
            return valid, error_type, execution, state
        finally:
            self.record = None
            instances = vars(self.utils)
            for name in [name for name in instances if name.endswith("_instance")]:
                del instances[name]

    def run_line(self, tasks, line):
        """One line in, one line out."""
        entry = json.loads(line)
        answer = {"id": entry["id"], "case": entry.get("case")}
        signal.setitimer(signal.ITIMER_REAL, self.call_seconds)
        try:
            outside = {
                why_outside(call, self.methods)
                for steps in entry["turns"]
                for step in steps
                for call in step
            } - {None}
            if outside:
                answer["outside"] = sorted(outside)
            valid, error_type, execution, state = self.run(tasks[entry["id"]], entry["turns"])
            answer |= {"valid": valid, "error_type": error_type, "execution": execution}
            if state and self.with_state:
                answer["state"] = state
        except (GaveUp, MemoryError):
            answer["timeout"] = True
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return answer


def find_package(package):
    """Puts the package on the path, if one is named, and gives its folder."""
    from pathlib import Path

    if package:
        sys.path.insert(0, package)
    import bfcl_eval

    return Path(bfcl_eval.__file__).parent


def give_up(_signal, _frame):
    raise GaveUp


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", help="folder that holds bfcl_eval and mpmath, if they are not installed")
    parser.add_argument("--unpatched", action="store_true", help="leave the package's leaks as they are")
    parser.add_argument("--no-state", action="store_true", help="leave states out of the answers")
    parser.add_argument("--tasks", help="tasks of our own, in BFCL's shape with ground truth, one a line")
    parser.add_argument("--call-seconds", type=float, default=10, help="give up a line after this long")
    parser.add_argument("--memory-gigabytes", type=int, default=4)
    options = parser.parse_args()
    limit = options.memory_gigabytes << 30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGALRM, give_up)

    root = find_package(options.package)
    tasks = load_own_tasks(options.tasks) if options.tasks else load_tasks(root)
    peer = Peer(options.unpatched, options.call_seconds)
    peer.with_state = not options.no_state
    today = datetime.today()
    header = {
        "python": platform.python_version(),
        "root": str(root.parent),
        "today": [today.year, today.month, today.day],
    }
    # A call that prints must not garble the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps(header), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(peer.run_line(tasks, line)), file=answers, flush=True)


if __name__ == "__main__":
    main()
