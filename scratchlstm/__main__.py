"""`python -m scratchlstm gradcheck`."""

import argparse
import importlib.util
import os
import sys

from scratchlstm import gradcheck
from scratchlstm.layers.lstm import IMPLEMENTATIONS


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0 where all is right."""
    parser = argparse.ArgumentParser(prog="python -m scratchlstm", description="scratchlstm on the command line")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser(
        "gradcheck",
        help="compare every gradient of some small models, the tutorial's first, with numerical and TensorFlow's",
    )
    check.add_argument("--seed", type=int, default=0, help="of weights and data (default 0)")
    check.add_argument("--implementation", choices=IMPLEMENTATIONS, help="one recurrence only (default: both)")
    check.add_argument("--no-tensorflow", action="store_true", help="numerical gradients only")
    return _gradcheck(parser.parse_args(arguments))


def _gradcheck(options: argparse.Namespace) -> int:
    has_tensorflow = importlib.util.find_spec("tensorflow") is not None and not options.no_tensorflow
    if has_tensorflow:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its start-up notes would stand in the table
    else:
        print("without TensorFlow: analytic against numerical only")
    ok = True
    for implementation in [options.implementation] if options.implementation else IMPLEMENTATIONS:
        for report in gradcheck.reports_in_small(has_tensorflow, options.seed, implementation):
            print(f"\n[{implementation}] {report}")
            ok = ok and report.ok
    print("\nevery gradient is right" if ok else "\nA GRADIENT IS WRONG")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
