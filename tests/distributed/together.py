"""What two processes do in test_processes.py, all in one launch: python -m torch.distributed.run
... together.py FOLDER
"""

import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
from safetensors.torch import save_file
from torch import distributed as dist

from purified_opsd.distributed.process_group import part
from purified_opsd.distributed.sharding import FSDP2, Replicated
from purified_opsd.errors import RunError
from purified_opsd.settings.build import build
from purified_opsd.settings.yaml_file import read_yaml
from purified_opsd.training import train
from purified_opsd.training.config import TrainingConfig
from purified_opsd.training.run import resume_run, start_run
from purified_opsd.training.setup import TrainingSetup, setup_training


def gradient(setup: TrainingSetup) -> dict[str, torch.Tensor]:
    """The gradient of a first step from an adapter that is not zero, as the optimizer gets it,
    unclipped.
    """
    for place, (name, parameter) in enumerate(setup.policy.adapter_parameters().items()):
        if "lora_B" in name:
            parameter.data.normal_(std=0.3, generator=torch.Generator().manual_seed(place))
    caught = {}
    setup.optimizer.register_step_pre_hook(
        lambda *_: caught.update(
            {name: p.grad.clone() for name, p in setup.policy.adapter_parameters().items()}
        )
    )
    setup.policy.model.train()
    train.training_step(setup, 0)
    return caught


def check_reduction(setup: TrainingSetup) -> None:
    """A step reduces the gradient in one collective, to exactly what a sum of each tensor is."""
    all_reduce, sum_gradients = dist.all_reduce, train.sum_gradients
    parameters = list(setup.policy.adapter_parameters().values())
    reduced = []

    def counting_all_reduce(tensor, *arguments, **options):
        if tensor.is_floating_point():
            reduced.append(tensor.numel())
        return all_reduce(tensor, *arguments, **options)

    def checked_sum_gradients(parameters):
        own = [parameter.grad.clone() for parameter in parameters]
        expected = [gradient.clone() for gradient in own]
        for gradient in expected:
            all_reduce(gradient)
        sum_gradients(parameters)
        summed = [parameter.grad for parameter in parameters]
        assert all(map(torch.equal, summed, expected))
        assert not all(map(torch.equal, summed, own))

    with (
        mock.patch.object(dist, "all_reduce", counting_all_reduce),
        mock.patch.object(train, "sum_gradients", checked_sum_gradients),
    ):
        train.training_step(setup, 0)
    assert reduced == [sum(parameter.numel() for parameter in parameters)]


def held(setup: TrainingSetup) -> int:
    """Numbers of the base that this process holds."""
    local = [
        p.to_local() if isinstance(p, dist.tensor.DTensor) else p
        for p in setup.policy.model.parameters()
        if not p.requires_grad
    ]
    return sum(p.numel() for p in local)


def main(folder: Path) -> None:
    run: TrainingConfig = build(TrainingConfig, read_yaml(folder / "run.yaml"))
    unclipped = replace(
        run, optimizer=replace(run.optimizer, max_grad_norm=1e12), micro_batch_tokens=100
    )
    shares = []
    tied = replace(unclipped, model=replace(run.model, path=str(folder / "tied")))
    for name, one, sharding in (
        ("replicated", unclipped, Replicated()),
        ("fsdp2", unclipped, FSDP2()),
        ("tied", tied, FSDP2()),
    ):
        setup = setup_training(replace(one, sharding=sharding))
        found = gradient(setup)
        shares.append(held(setup))
        if dist.get_rank() == 0:
            save_file(found, folder / f"{name}.safetensors")
        check_reduction(setup)
        del setup
    try:
        setup_training(replace(run, batch_size=1))
    except RunError as error:
        refusal = str(error)
    sharded = replace(run, sharding=FSDP2(), steps=2, output_dir=folder / "began_with_two")
    start_run(sharded)
    resume_run(replace(run, sharding=FSDP2()), folder / "began_with_one")
    if dist.get_rank() == 0:
        (folder / "said.txt").write_text(f"{' '.join(map(str, shares))}\n{refusal}")
    part(0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
