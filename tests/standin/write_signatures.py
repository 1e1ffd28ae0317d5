"""Writes `cupy_signatures.json`: what CuPy's functions take. Run where CuPy is installed; no GPU is needed.

python tests/standin/write_signatures.py
"""

import inspect
import json
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("cupy_signatures.json")


def _parameters(signature: inspect.Signature) -> str:
    """As between the parentheses of a `def`, without annotations, every default None."""
    bare = [
        p.replace(annotation=p.empty, default=p.empty if p.default is p.empty else None)
        for p in signature.parameters.values()
    ]
    return str(inspect.Signature(bare))[1:-1]


def signatures(cupy: Any) -> dict[str, Any]:
    """For each function of the module its parameters, and which are ufuncs."""
    functions, ufuncs = {}, []
    for prefix, module in (("", cupy), ("linalg.", cupy.linalg)):
        for name in sorted(dir(module)):
            value = getattr(module, name)
            if name.startswith("_") or inspect.ismodule(value) or inspect.isclass(value) or not callable(value):
                continue
            if isinstance(value, cupy.ufunc):
                ufuncs.append(name)
                continue
            try:
                functions[prefix + name] = _parameters(inspect.signature(value))
            except (TypeError, ValueError):
                continue
    return {"version": cupy.__version__, "functions": functions, "ufuncs": ufuncs}


if __name__ == "__main__":
    import cupy

    PATH.write_text(json.dumps(signatures(cupy), indent=0) + "\n")
