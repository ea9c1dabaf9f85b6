"""The chunked loss against its floor, a direct port of the formulas, TRL's chunked divergence and
Liger's chunked JSD.
"""

import argparse
from pathlib import Path

import torch

from .contenders import CONTENDERS, Case
from .race import race
from .tables import bars, publish, race_rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loss", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a tiny problem, to see that everything runs"
    )
    parser.add_argument("--tokens", type=int, default=256, help="N (default 256)")
    parser.add_argument("--hidden", type=int, default=1024, help="D (default 1,024)")
    parser.add_argument("--vocabulary", type=int, default=151_936, help="V (default 151,936)")
    parser.add_argument(
        "--chunk-rows", type=int, help="rows of a chunk (default: as a run chooses)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    words = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    case = Case(words.tokens, words.hidden, words.vocabulary, dtype, device, words.chunk_rows)
    if words.quick:
        case = Case(N=48, D=32, V=2048, dtype=dtype, device=device, chunk_rows=16)
    rows = race_rows(
        race(CONTENDERS, case, 2 if words.quick else words.rounds), "floor", case.buffer_bytes
    )
    sizes = f"N = {case.N}, D = {case.D}, V = {case.V}, {case.dtype}, chunks of {case.chunk}"
    title = f"One forward and backward pass, {sizes}"
    publish("loss", words.output, {title: rows}, device)
    bars(words.output / "loss.png", rows, "contender", ["ratio to floor", "peak MB"])


if __name__ == "__main__":
    main()
