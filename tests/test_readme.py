"""What the README and the page of the gradient check show is what happens."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GRADCHECK = (ROOT / "docs/api/gradcheck.md").read_text(encoding="utf-8")


def test_it_is_short():
    assert len(README.split()) <= 900


def test_the_ten_second_check_prints_what_the_readme_says():
    code, printed = re.search(r"```python\n(.*?)```\s+prints\s+```text\n(.*?)```", README, re.DOTALL).groups()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == printed


def test_the_gradient_table_has_the_rows_that_its_page_shows():
    shown = re.search(r"```text\n(\[compiled\].*?)```", GRADCHECK, re.DOTALL).group(1)
    command = [sys.executable, "-m", "scratchlstm", "gradcheck", "--no-tensorflow", "--implementation", "fused"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)

    def rows(text):
        return re.findall(r"^  (\S+) +(\(\d.*?\)) .* (\w+)$", text, re.MULTILINE)

    assert len(rows(shown)) == 12
    assert rows(done.stdout)[:12] == rows(shown)


@pytest.mark.parametrize("target", re.findall(r"\]\((?!http)([^)#]+)", README))
def test_links_lead_somewhere(target):
    assert (ROOT / target).exists()


def test_both_commands_are_there_once():
    lines = re.findall(r"^python3 -m venv .* && \.venv/bin/python (.*)$", README, re.MULTILINE)
    assert lines == ["examples/imdb.py", "-m pytest"]
