"""The command line: `python -m scratchlstm gradcheck`, `... explore` and `... exercises`."""

import argparse
import importlib.util
import os
import sys
from pathlib import Path

from scratchlstm import gradcheck
from scratchlstm._support import compiled
from scratchlstm.datasets.vocabulary import read_vocabulary
from scratchlstm.exercises import command
from scratchlstm.inspection import explore
from scratchlstm.inspection.explorer.reading import first_layer
from scratchlstm.layers.fused import IMPLEMENTATIONS
from scratchlstm.models import load_model


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns 0 if all is well."""
    parser = argparse.ArgumentParser(prog="python -m scratchlstm", description="command-line tools of scratchlstm")
    commands = parser.add_subparsers(dest="command", required=True)
    told = "compare every gradient of small models, starting with the tutorial's, with numerical and TensorFlow's"
    check = commands.add_parser("gradcheck", help=told)
    check.add_argument("--seed", type=_seed, default=0, help="seed for weights and data (default 0)")
    told = 'check only this one; "fused" is the fastest available (default: check all)'
    check.add_argument("--implementation", choices=IMPLEMENTATIONS, help=told)
    check.add_argument("--no-tensorflow", action="store_true", help="numerical gradients only")
    page = commands.add_parser("explore", help="write a web page where a trained model reads a sentence, gate by gate")
    page.add_argument("model", type=_model_path, help="a saved model, with its vocabulary.json in the same folder")
    page.add_argument("text", help="the text to read")
    page.add_argument("--output", type=Path, help="the page (default: explorer.html next to the model)")
    told = "target for the loss (default for a classifier: its own answer)"
    page.add_argument("--label", type=float, help=told)
    told = "maximum size of the page (default 500000); if the weights do not fit, the page cannot run the model"
    page.add_argument("--most-bytes", type=int, default=500_000, help=told)
    told = "write the equations yourself and see what is wrong"
    command.add_arguments(commands.add_parser("exercises", help=told))
    options, more = parser.parse_known_args(arguments)
    if options.command == "exercises":  # its words may come before and after its options
        options.what += [each for each in more if not each.startswith("-")]
        more = [each for each in more if each.startswith("-")]
    if more:
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    return {"gradcheck": _gradcheck, "explore": _explore, "exercises": command.run}[options.command](options)


def _seed(text: str) -> int:
    if not text.strip().isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, not {text!r}")
    return int(text)


def _model_path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("must be the name of a saved model's file, not an empty string")
    return Path(text)


def _gradcheck(options: argparse.Namespace) -> int:
    has_tensorflow = importlib.util.find_spec("tensorflow") is not None and not options.no_tensorflow
    if has_tensorflow:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # or its start-up messages would appear in the table
    else:
        print("without TensorFlow: only analytic against numerical")
    wanted = [options.implementation] if options.implementation else list(IMPLEMENTATIONS[1:])  # "fused" is one of them
    if "compiled" in wanted and (why := compiled.missing()):
        print(f"compiled loops are not checked, as they need Numba: {compiled.remedy(why)}")
        wanted.remove("compiled")
        if not wanted:
            return 2
    ok = True
    for implementation in wanted:
        for report in gradcheck.reports_in_small(has_tensorflow, options.seed, implementation):
            print(f"\n[{implementation}] {report}")
            ok = ok and report.ok
    print("\nevery gradient is right" if ok else "\nA GRADIENT IS WRONG")
    return 0 if ok else 1


def _explore(options: argparse.Namespace) -> int:
    path = options.model
    try:
        model = load_model(path)
        output = options.output or path.with_name("explorer.html")
        vocabulary = read_vocabulary(path.with_name("vocabulary.json"))
        sizes = model.input_shape, getattr(first_layer(model), "input_dim", None)
        if sizes != ((vocabulary["maxlen"],), vocabulary["num_words"]):
            raise ValueError(f"{path.name} and vocabulary.json in {str(path.parent)!r} are not from the same run")
        given = {"label": options.label, "most_bytes": options.most_bytes}
        explore(model, options.text, output, word_index=vocabulary["words"], **given)
    except (OSError, ValueError, ImportError, RuntimeError) as error:  # errors the user can fix
        print(f"python -m scratchlstm explore: error: {error}", file=sys.stderr)
        return 2
    print(f"written to {output}: open it in a browser")
    return 0


if __name__ == "__main__":
    sys.exit(main())
