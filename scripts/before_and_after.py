"""What the base and a run's last checkpoint write to the same questions with the same seeds.

python scripts/before_and_after.py runs/smollm2-pmi --questions 2
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
import yaml

from purified_opsd.data.seeds import seed_for
from purified_opsd.sampling.hf import HFSampler
from purified_opsd.settings.build import build
from purified_opsd.storage.run_dir import RunReader
from purified_opsd.training.checkpoint import checkpoint_folder, list_checkpoints, load_adapter
from purified_opsd.training.config import TrainingConfig
from purified_opsd.training.setup import setup_training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--questions", type=int, default=2)
    parser.add_argument("--temperature", type=float, default=0.0)
    arguments = parser.parse_args()

    config = build(TrainingConfig, yaml.safe_load(RunReader(arguments.run).config_file.read_text()))
    steps = list_checkpoints(arguments.run)
    if not steps:
        parser.error(f"{arguments.run} has no checkpoint yet")
    setup = setup_training(config)
    policy = setup.policy
    examples = setup.examples.batch(0, arguments.questions, config.seed)
    prompts = [setup.prompts.base_context(example.problem) for example in examples]
    seeds = [seed_for(config.seed, "before and after", index) for index in range(len(prompts))]
    sampling = replace(config.sampling, temperature=arguments.temperature)
    sampler = HFSampler(policy.model, sampling)

    with torch.no_grad():
        before = sampler.generate(prompts, seeds)  # the fresh adapter changes nothing
        load_adapter(checkpoint_folder(arguments.run, steps[-1]), policy)
        after = sampler.generate(prompts, seeds)
    for example, of_base, of_student in zip(examples, before, after, strict=True):
        print(f"\n## {example.id}: {example.problem}")
        print(f"\n### base\n{policy.tokenizer.decode(of_base.ids)}")
        print(f"\n### after step {steps[-1]}\n{policy.tokenizer.decode(of_student.ids)}")


if __name__ == "__main__":
    main()
