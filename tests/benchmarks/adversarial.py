"""How fast adversarial training is on this CPU: examples/imdb_best.py's step against its plain one, and PyTorch's.

    python tests/benchmarks/adversarial.py                 some minutes
    python tests/benchmarks/adversarial.py --rounds 1      a quick look

Both have the example's model, its reviews in its batches of like length (both cut padding off), dropout, Adam over all
rows and the running average of the weights, and add the perturbation that hurts most with the dropout of the first
pass. PyTorch packs the sequences. Contenders are processes that take turns; medians are compared. Needs the extras
`bench` and `imdb`.
"""

import argparse
import json
import os
import runpy
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).parents[2]
BATCH, EPSILON, RATE = 64, 0.06, 1e-3
SETTINGS = "plain", "adversarial"


def example():
    sys.path.insert(0, str(ROOT / "examples"))
    return runpy.run_path(str(ROOT / "examples" / "imdb_best.py"))


class Ours:
    """This package, through `fit`."""

    def __init__(self, known):
        import scratchlstm

        best = example()
        self.model = best["build"](best["Reader"]([["x"] * size for size in known], 400), 64, set(), seed=0)
        optimizer = scratchlstm.optimizers.Adam(RATE, use_ema=True)
        self.model.compile(optimizer, "binary_crossentropy", metrics=["accuracy"])

    def train(self, x, y, adversarial):
        from scratchlstm.training import AdversarialTraining

        start = time.perf_counter()
        worst = AdversarialTraining(EPSILON) if adversarial else None
        self.model.fit(x, y, BATCH, verbose=0, adversarial=worst, group_by_length=True)
        return time.perf_counter() - start


class PyTorch:
    """The same, written with PyTorch's modules."""

    def __init__(self, known):
        import torch
        from torch import nn
        from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

        torch.set_flush_denormal(True)
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.torch = torch
        sizes = zip(known, (96, 32), strict=True)
        self.tables = nn.ModuleList(nn.Embedding(count + 2, size, padding_idx=0) for count, size in sizes)
        self.lstm = nn.LSTM(128, 64, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * 128 + 128, 1)
        self.model = nn.ModuleList([self.tables, self.lstm, self.head])
        self.optimizer = torch.optim.Adam(self.model.parameters(), RATE, fused=True)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.99))

    def embedded(self, ids):
        """The embeddings' outputs for words and pairs, a tenth of which is dropped."""
        torch = self.torch
        dropped = [torch.where((torch.rand(each.shape) < 0.1) & (each > 0), 1, each) for each in ids]
        return torch.cat([table(each) for table, each in zip(self.tables, dropped, strict=True)], dim=2)

    def loss(self, x, lengths, y):
        """From the embeddings on."""
        torch, functional = self.torch, self.torch.nn.functional
        x = x * functional.dropout(torch.ones(len(x), 1, x.shape[2]), 0.2)
        rnn = torch.nn.utils.rnn
        packed = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        h, _ = rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        there = (torch.arange(x.shape[1]) < lengths[:, None])[..., None]
        highest = h.masked_fill(~there, -torch.inf).amax(dim=1)
        means = [(each * there).sum(dim=1) / lengths[:, None] for each in (h, x)]
        pooled = functional.dropout(torch.cat([means[0], highest, means[1]], dim=1), 0.5)
        return functional.binary_cross_entropy_with_logits(self.head(pooled)[:, 0], y)

    def train(self, x, y, adversarial):
        torch = self.torch
        lengths = np.maximum((x[0] != 0).sum(axis=1), 1)
        order = np.argsort(lengths, kind="stable")
        start = time.perf_counter()
        for number, first in enumerate(range(0, len(y), BATCH)):
            rows = order[first : first + BATCH]
            longest = lengths[rows].max()
            # behind the words, where PyTorch's packed sequences have their padding
            behind = [
                np.stack([np.roll(row, n) for row, n in zip(each[rows, -longest:], lengths[rows], strict=True)])
                for each in x
            ]
            ids, of_rows = [torch.from_numpy(each).long() for each in behind], torch.from_numpy(lengths[rows])
            labels = torch.from_numpy(y[rows]).float()
            self.optimizer.zero_grad()
            torch.manual_seed(number)
            embedded = self.embedded(ids)
            if not adversarial:
                self.loss(embedded, of_rows, labels).backward()
            else:
                dropout = torch.get_rng_state()
                clean = self.loss(embedded, of_rows, labels)
                embedded.retain_grad()
                (0.5 * clean).backward(retain_graph=True)
                with torch.no_grad():
                    g, size = embedded.grad, torch.linalg.vector_norm(embedded, dim=(1, 2), keepdim=True)
                    r = EPSILON * size * g / torch.linalg.vector_norm(g, dim=(1, 2), keepdim=True).clamp_min(1e-30)
                torch.set_rng_state(dropout)
                (0.5 * self.loss(embedded + r, of_rows, labels)).backward()
            self.optimizer.step()
            self.average.update_parameters(self.model)
        return time.perf_counter() - start


KINDS = {"scratchlstm": Ours, "PyTorch": PyTorch}


def reviews(path, samples):
    """Ids and labels of the example's reviews, and how many words and pairs are known."""
    best = example()
    (texts, labels), _ = best["imdb"].load_texts()
    texts, labels = texts[:samples], labels[:samples]
    reader = best["Reader"].of(texts, 400, 30_000, 100_000)
    words, pairs = reader.read(texts)
    np.savez(path, words=words, pairs=pairs, labels=labels, known=[len(each) for each in reader.known])


def serve(setup):
    """Answer each line of standard input, a command in JSON, by a line of JSON."""
    data = np.load(setup["data"])
    contender = KINDS[setup["kind"]](data["known"].tolist())
    x, labels = [data["words"], data["pairs"]], data["labels"]
    replies, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        rows = slice(json.loads(line)["steps"] * BATCH)
        seconds = contender.train([each[rows] for each in x], labels[rows], json.loads(line)["adversarial"])
        print(json.dumps(seconds), file=replies, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40, help="training steps of a round")
    options = parser.parse_args()
    from cpu import Contender as Process
    from cpu import machine, spread

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "reviews.npz")
        reviews(path, options.steps * BATCH)
        running = {kind: Process(kind, {}, script=__file__, kind=kind, data=path) for kind in KINDS}
        times = {(kind, setting): [] for kind in KINDS for setting in SETTINGS}
        for turn in range(options.rounds + 1):  # the first warms up
            for kind, setting in times:
                seconds = running[kind].ask(steps=options.steps, adversarial=setting == "adversarial")
                times[kind, setting] += [1e3 * seconds / options.steps] if turn else []
        for process in running.values():
            process.close()
    print(f"{machine()}; medians of {options.rounds} rounds of {options.steps} steps\n")
    print("| | step | ms (range) | scratchlstm's in relation |\n|---|---|---|---|")
    for (kind, setting), values in times.items():
        own = median(times["scratchlstm", setting])
        print(f"| {kind} | {setting} | {spread(values)} | {own / median(values):.2f} |")
    for kind in KINDS:
        plain, twice = (median(times[kind, setting]) for setting in SETTINGS)
        print(f"\n{kind}: an adversarial step takes {twice / plain:.2f} times as long as a plain one")


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1].startswith("{"):
        serve(json.loads(sys.argv[1]))
    else:
        main()
