"""Times the official package's checker on all tasks, once for each line on stdin.

Prints "{valid} {seconds}" a line. Nothing around the checker is changed or recorded; reading the data is not timed.
"""

import argparse
import sys
import time
import warnings

from official import find_package, load_tasks

warnings.simplefilter("ignore")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", help="folder that holds bfcl_eval and mpmath, if they are not installed")
    parser.add_argument("work", choices=["ground-truth", "one-call-more"])
    options = parser.parse_args()
    tasks = load_tasks(find_package(options.package))
    from bfcl_eval.eval_checker.multi_turn_eval import multi_turn_checker, multi_turn_utils

    first = [["None"]] if options.work == "one-call-more" else []
    work = [
        (
            task,
            [(first if index == 0 else []) + ([calls] if calls else []) for index, calls in enumerate(task["ground_truth"])],
            task["id"].rsplit("_", 1)[0],
        )
        for task in tasks.values()
    ]
    for round_index, _ in enumerate(sys.stdin):
        valid = 0
        start = time.perf_counter()
        for task, turns, category in work:
            verdict = multi_turn_checker.multi_turn_checker(
                turns, task["ground_truth"], task, category, f"round{round_index}"
            )
            valid += verdict["valid"]
        seconds = time.perf_counter() - start
        instances = vars(multi_turn_utils)
        for name in [name for name in instances if name.endswith("_instance")]:
            del instances[name]
        print(valid, seconds, flush=True)


if __name__ == "__main__":
    main()
