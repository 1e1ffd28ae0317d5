"""What the first call costs: in a fresh process that compiles everything, and in one that finds it on disk.

    python tests/benchmarks/first.py

Seconds: to import the package, to the end of the first training step at the tutorial's shape, and to the end of the
second; medians of several rounds, each with an empty cache of its own. The package's import must not import Numba.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from statistics import median


def measure():
    """In this process: seconds of each, and whether the import brought Numba."""
    start = time.perf_counter()
    import scratchlstm  # noqa: F401

    imported, numba = time.perf_counter() - start, "numba" in sys.modules
    import contenders
    import numpy as np

    shape = {"V": 20000, "E": 128, "H": 60, "T": 100, "tokens": True, "layer": "LSTM"}
    ours = contenders.Ours(shape, workers=1)
    x, y = np.random.default_rng(0).integers(0, shape["V"], (128, shape["T"])), np.zeros(128)
    first, second = ours.epochs(x, y, 128, 2)
    return {"import": imported, "first step": first, "second step": second, "Numba": numba}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure()))
        return
    found = {"compiles": [], "finds it on disk": []}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {"NUMBA_CACHE_DIR": folder}
            for values in found.values():
                output = subprocess.check_output([sys.executable, __file__, "--one"], env=environment, text=True)
                values.append(json.loads(output.splitlines()[-1]))
    print("| | import (s) | first step (s) | second step (s) |\n|---|---|---|---|")
    for name, values in found.items():
        assert not any(value["Numba"] for value in values), "importing the package imported Numba"
        cells = [f"{median(value[key] for value in values):.2f}" for key in ("import", "first step", "second step")]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
