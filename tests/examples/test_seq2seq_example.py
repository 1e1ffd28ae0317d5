"""The example that translates dates, in its quick mode, and its dates."""

import re
from datetime import datetime

import numpy as np
import pytest

pytestmark = pytest.mark.slow

FORMATS = [
    *("%d %B %Y", "%d %b %Y", "%B %d %Y", "%b %d %Y", "%d-%b-%y", "%d %b %y", "%B %d %y", "%Y %B %d", "%Y %b %d"),
    *("%d.%m.%Y", "%d.%m.%y", "%Y/%m/%d", "%Y-%m-%d", "%m/%d/%Y", "%d/%m/%Y", "%m/%d/%y", "%d/%m/%y"),
]
WEEKDAY = re.compile(r"(mon|tue|wed|thu|fri|sat|sun)(day|sday|nesday|rsday|urday)?,? ")


@pytest.fixture(scope="module")
def example(functions):
    return functions("seq2seq.py")


def meanings(text):
    """Every date that the text can be read as, by Python's own parser; the weekday has to be right."""
    text = re.sub(r"\bsept\b", "sep", text)
    plain = re.sub(r"(?<=\d)(st|nd|rd|th)\b|\bthe |\bof |[,']|\.(?= )", "", WEEKDAY.sub("", text))
    found = set()
    for layout in FORMATS:
        try:
            day = datetime.strptime(plain, layout)
        except ValueError:
            continue
        weekday = WEEKDAY.match(text)
        if not weekday or day.strftime("%A").lower().startswith(weekday[1]):
            found.add(day.date().isoformat())
    return found


def test_a_written_date_has_one_meaning(example):
    texts, isos = example["write_dates"](np.arange(example["DAYS"]), 3000, np.random.default_rng(0))
    assert [meanings(text) for text in texts] == [{iso} for iso in isos]
    assert max(map(len, texts)) <= example["LONGEST"]
    assert {"1900", "2099"} <= {iso[:4] for iso in isos}
    assert any("sept" in text.split() for text in texts)
    used = {style for style in example["STYLES"] if any(_is_in(text, style) for text in texts)}
    assert used == set(example["STYLES"])


def _is_in(text, style):
    """Whether it may be written in this style."""
    parts = {"wd": "[a-z]{3}", "weekday": "[a-z]+day", "mon": "[a-z]{3,4}", "month": "[a-z]+", "th": r"\d+[a-z]{2}"}
    parts |= {"d": r"\d{1,2}", "dd": r"\d\d", "m": r"\d{1,2}", "mm": r"\d\d", "yyyy": r"\d{4}", "yy": r"\d\d"}
    pattern = "".join(parts.get(part, re.escape(part)) for part in re.split(r"[{}]", style))
    return re.fullmatch(pattern, text)


def test_no_day_of_the_test_is_in_training(example):
    days = np.random.default_rng(0).permutation(example["DAYS"])
    (_, trained), (_, tested) = (
        example["write_dates"](part, 5000, np.random.default_rng(0)) for part in (days[2000:], days[:2000])
    )
    assert not set(trained) & set(tested)


def test_texts_and_dates_are_padded_and_begun_as_the_model_wants_them(example):
    ids = example["read_ids"](["1 may 98", "7.1.99"])
    assert ids.shape == (2, 8)
    assert ids[1, 6:].tolist() == [0, 0]
    assert ids[:, :6].min() > 0
    assert example["written_ids"](["1998-05-01"]).tolist() == [[0, 3, 11, 11, 10, 1, 2, 7, 1, 2, 3, 0]]


def test_what_is_translated_together_is_translated_as_alone(example):
    """Padding has no attention and changes nothing."""
    options = type("Options", (), {"quick": True, "seed": 0, "backend": None})
    texts = ["7.1.99", "the 23rd of september, 2024"]
    for attention in (False, True):
        model = example["build_model"](attention, options)
        rng = np.random.default_rng(1)
        model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
        isos, weights = example["translate"](model, texts)
        assert isos == [example["translate"](model, [text])[0][0] for text in texts]
        if attention:
            assert np.all(weights[0, :, len(texts[0]) :] == 0)
            np.testing.assert_allclose(weights.sum(axis=2), 1, rtol=1e-6)
            alone = example["translate"](model, texts[:1])[1]
            np.testing.assert_allclose(weights[:1, : alone.shape[1], : len(texts[0])], alone, atol=1e-5)


def test_it_trains_saves_and_translates(run, colors_of, tmp_path):
    printed = run("seq2seq.py", "--output", tmp_path)
    without, with_attention = re.findall(r"^(\w+) attention: \S+% of 64 dates are right", printed, re.MULTILINE)
    assert (without, with_attention) == ("without", "with")
    losses = [float(loss) for loss in re.findall(r"loss: (\S+)$", printed, re.MULTILINE)]
    assert all(loss < np.log(12) for loss in losses)
    assert colors_of(tmp_path / "alignment.png") > 20
    printed = run("seq2seq.py", "--output", tmp_path, "--text", " 3rd of  MARCH 1998")
    assert printed.startswith("3rd of march 1998 -> ")
    assert "Epoch" not in printed


def test_a_text_that_the_model_cannot_read(refused):
    assert "argument --text: the model reads letters, digits and \" ',-./\", but not 'é'" in refused(
        "seq2seq.py", "--text", "3 février 1998"
    )
    assert "must be a date of 1 to 31 characters, not ''" in refused("seq2seq.py", "--text", " ")


def test_a_file_that_is_no_model(refused, tmp_path):
    (tmp_path / "model.npz").write_text("no model")
    assert "model.npz" in refused("seq2seq.py", "--output", tmp_path, "--text", "3 march 1998")
