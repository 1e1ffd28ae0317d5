"""How soon the explorer page answers a change: milliseconds from the call to the next frame that is painted.

    python tests/benchmarks/explorer.py

At the tutorial's shape (an Embedding of 128, an LSTM of 60, 100 words), in the Chromium of the system, which Playwright
drives (extra `browser`), on an idle machine. The parts below the changes are calls by themselves, without a frame.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from scratchlstm import Sequential
from scratchlstm.inspection import explore
from scratchlstm.layers import LSTM, Dense, Embedding

WORDS = [f"word{rank}" for rank in range(1, 400)]
FORWARD, BACKWARD = 'state.view = "forward"', 'state.view = "backward"'
CHANGES = {
    "step forward": "goTo((state.step + 1) % experiment.steps.length)",
    "nudge f of a step": "experimentWith(shifted(untouched, at('f', {step: 40, unit: 3}), by()))",
    "nudge a weight of W": "experimentWith(shifted(untouched, at('W', {gate: 'f', feature: 5, unit: 3}), by()))",
    "nudge an embedding": "experimentWith(shifted(untouched, at('E', {row: current().rows[40], feature: 5}), by()))",
    "hold f of every unit at 1": "experimentWith({ held: [{gate: 'f', unit: null, value: 1 - by()}] })",
    "drop a word": "experimentWith({ steps: padded(untouched.steps.toSpliced(turn % 90, 1)) })",
}
PARTS = {
    "forward": "run(untouched)",
    "forward and backward": "backward(run(untouched))",
    "check that all is finite": "isFinitePass(current())",
    "measured slope": "measuredSlope(experiment, at('f', {step: 40, unit: 3}))",
    "show, all of it": "show()",
}
# the change, then style and layout (forced), then the frame
MEASURE = """async ([changes, rounds]) => {
    const found = {};
    window.turn = 0;
    window.by = () => 1e-3 * ++turn;
    const frame = () => new Promise(resolve => requestAnimationFrame(() => setTimeout(resolve)));
    const median = (all) => all.sort((a, b) => a - b)[Math.floor(all.length / 2)];
    for (const [name, change, painted] of changes) {
        const run = new Function(change), times = [];
        for (let round = 0; round < rounds; round++) {
            await frame();
            const start = performance.now();
            run();
            if (painted) { document.body.offsetHeight; await frame(); }
            times.push(performance.now() - start);
        }
        found[name] = [median(times), Math.min(...times)];
    }
    return found;
}"""


def write_page(path):
    model = Sequential(seed=0)
    model.add(Embedding(1000, 128, input_shape=(100,)))
    model.add(LSTM(60))
    model.add(Dense(1, activation="sigmoid"))
    model.compile("adam", "binary_crossentropy")
    ranks = {word: rank for rank, word in enumerate(WORDS, start=1)}
    explore(model, WORDS[:100], path, word_index=ranks, most_bytes=1_000_000)


def measure(path, rounds, width):
    from playwright.sync_api import sync_playwright

    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        page = browser.new_context(bypass_csp=True, viewport={"width": width, "height": 900}).new_page()
        page.goto(path.as_uri())
        parts = PARTS | {f"of it {call}": call for call in page.evaluate("show.toString().match(/show\\w+\\(\\)/g)")}
        changes = [(name, change, True) for name, change in CHANGES.items()]
        result = page.evaluate(MEASURE, [changes + [(name, part, False) for name, part in parts.items()], rounds])
        browser.close()
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--width", type=int, default=1280, help="of the window, in CSS pixels")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        write_page(path)
        times = measure(path, options.rounds, options.width)
    print("| | median (ms) | least (ms) |\n|---|---|---|")
    for name, (median, least) in times.items():
        print(f"| {name} | {median:.1f} | {least:.1f} |")


if __name__ == "__main__":
    main()
