"""How much faster a GPT-like decoder writes when it may leave its blocks early.

    NASBENCH_DATA=... python experiments/depth_exits.py

A small decoder is trained on Shakespeare's characters (as word pieces) with all its depths in one
pass. Then the same prompts of test text are continued greedily: by all blocks, by drafts of few
blocks that all blocks check, and by tokens that leave where a shallow exit is sure of them. Time is
the median over the prompts of each's time divided by that of all blocks, taken in turn.

Of early exits, the quality is measured on test text: how often a token would leave, and how often
it would then be the one that all blocks choose.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from study import build

from nasbench.config import SupernetConfig, TaskConfig, TrainingConfig
from nasbench.hardware.engine import cpu_name
from nasbench.supernet.nested.decoding import (
    Decoded,
    decode_confidently,
    decode_greedily,
    decode_speculatively,
)
from nasbench.supernet.training.trainer import train_supernet

NUM_PROMPTS, PROMPT_LENGTH, NUM_TOKENS = 12, 16, 64
THRESHOLDS = (0.9, 0.7, 0.5)


def early_exits(supernet: Any, tokens_BT: torch.Tensor, depth: int, threshold: float) -> str:
    """On given text: the share of tokens that would leave, and that of right ones among them."""
    with torch.inference_mode():
        exits = supernet.forward_exits(tokens_BT)
    probability_BT, choice_BT = exits[depth].softmax(-1).max(-1)
    leaves_BT = probability_BT >= threshold
    is_right_BT = choice_BT == exits[max(exits)].argmax(-1)
    right = is_right_BT[leaves_BT].double().mean() if leaves_BT.any() else float("nan")
    return f"on test text {leaves_BT.double().mean():.3f} leave, of these {right:.3f} agree"


def main() -> None:
    """Train, decode, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("runs/depth_exits"))
    asked = parser.parse_args()
    task, supernet = build(
        TaskConfig(name="language_model", options={"vocab_size": 256, "sequence_length": 64}),
        SupernetConfig(family="decoder", preset=asked.preset),
        seed=0,
    )
    config = TrainingConfig(
        strategy="sorted", options={"exits": True}, epochs=asked.epochs, batch_size=32,
        learning_rate=3e-3, warmup_epochs=0.2, label_smoothing=0.0, num_threads=1,
        monitor_every=0, checkpoint_every=0.5, device="cpu",
    )  # fmt: skip
    start = time.perf_counter()
    train_supernet(
        supernet, task, config, seed=0, folder=asked.folder / asked.preset, fingerprint="exits"
    )
    print(f"trained in {time.perf_counter() - start:.0f} s (0 if before)")
    torch.set_num_threads(1)
    supernet.eval()
    depths = supernet.space["depth"].rising
    for depth in depths:
        architecture = {**supernet.largest, "depth": depth}
        found = task.evaluate(supernet.extract(architecture), "test", 64, num_samples=128)
        print(f"depth {depth}: {found}")
    model = supernet.extract(supernet.largest)
    (tokens_BT,) = task.load("test", torch.arange(NUM_PROMPTS)).inputs
    prompts = [tokens_T[:PROMPT_LENGTH] for tokens_T in tokens_BT]

    ways: dict[str, Callable[[Any], Decoded]] = {}
    for depth in depths[:-1]:
        for num_drafts in (2, 3, 4, 6):
            ways[f"drafts of {num_drafts} by depth {depth}"] = (
                lambda prompt, depth=depth, count=num_drafts: decode_speculatively(
                    model, prompt, NUM_TOKENS, draft_depth=depth, num_drafts=count
                )
            )
        for threshold in THRESHOLDS:
            ways[f"exit at depth {depth} from {threshold}"] = (
                lambda prompt, depth=depth, threshold=threshold: decode_confidently(
                    model, prompt, NUM_TOKENS, {depth: threshold}
                )
            )
    ratios: dict[str, list[float]] = {name: [] for name in ways}
    notes: dict[str, list[float]] = {name: [] for name in ways}
    same: dict[str, bool] = dict.fromkeys(ways, True)
    for prompt in (prompts[0], *prompts):  # the first is a warm-up
        for name, way in ways.items():
            start = time.perf_counter()
            expected = decode_greedily(model, prompt, NUM_TOKENS)
            middle = time.perf_counter()
            decoded = way(prompt)
            ratios[name].append((middle - start) / (time.perf_counter() - middle))
            notes[name].append(float(np.mean(np.array(decoded.depths) < max(depths))))
            same[name] &= torch.equal(decoded.tokens, expected.tokens)
    for name in ways:
        low, median, high = np.percentile(ratios[name][1:], (10, 50, 90))
        text = f"{name}: {median:.2f} times as fast (10 % to 90 %: {low:.2f} to {high:.2f}), "
        text += f"{np.mean(notes[name]):.2f} of the tokens shallow, "
        text += "the same tokens" if same[name] else "other tokens"
        if name.startswith("exit"):
            depth, threshold = int(name.split()[3]), float(name.split()[-1])
            text += "; " + early_exits(supernet, tokens_BT, depth, threshold)
        print(text)
    print(f"{cpu_name()}, {os.cpu_count()} cores, {platform.platform()}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
