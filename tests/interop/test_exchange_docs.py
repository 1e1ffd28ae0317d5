"""What docs/exchange.md shows runs as it is shown."""

import os
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "exchange.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
EXAMPLES = {name: "".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)) for name, text in SECTIONS.items()}
NEEDS = {
    "From Keras, live": ["tensorflow.python", "keras"],
    "Files of Keras, without Keras": ["h5py"],
    "Graphs of Keras": ["h5py"],
    "From PyTorch": ["torch"],
    "Files of PyTorch, without PyTorch": ["safetensors"],
    "To PyTorch": ["torch"],
    "Training differs in PyTorch": [],
    "To ONNX": ["onnx", "onnxruntime"],
}


def test_every_section_is_here():
    assert list(EXAMPLES) == list(NEEDS)
    assert [name for name, code in EXAMPLES.items() if not code] == ["Training differs in PyTorch"]


@pytest.mark.parametrize("section", NEEDS)
def test_an_example(section, tmp_path, monkeypatch):
    for module in NEEDS[section]:
        pytest.importorskip(module, reason=f"{module} is not installed here: this part of docs/exchange.md is NOT run")
    monkeypatch.chdir(tmp_path)
    exec(compile(EXAMPLES[section], f"docs/exchange.md, {section}", "exec"), {"__name__": "__main__"})


def test_every_name_in_the_tables_exists():
    from scratchlstm.interop import keras, onnx, torch

    tables = PAGE.split("\n## ")[0]
    for name in re.findall(r"`(\w+)\(", tables):
        assert any(hasattr(module, name) for module in (keras, torch, onnx)), name
    assert os.path.exists(Path(__file__).parents[1] / "tensorflow" / "test_keras_exchange.py")
