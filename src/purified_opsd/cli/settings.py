"""purified-opsd settings"""

import shutil
from typing import Annotated

from cyclopts import Parameter

from purified_opsd.errors import SettingsError
from purified_opsd.settings.classes import classes_at
from purified_opsd.settings.meanings import section_docs
from purified_opsd.settings.names import unknown_setting
from purified_opsd.settings.page import chosen, markdown, terminal
from purified_opsd.training.config import TrainingConfig

WIDEST = 100

INTRODUCTION = """# Settings

Every setting of a run, as its class has it: this page is what
`purified-opsd settings --markdown` prints. In a YAML file a section is a mapping; on the command
line its settings have dotted names, with dashes or underscores:

    target: {kind: pmi, clip: 5}        --target.kind pmi --target.clip 5
    optimizer: {learning_rate: 1e-5}    --optimizer.learning-rate 1e-5
    trackers: [wandb, tensorboard]      --trackers wandb tensorboard
    chunk_rows: null                    --chunk-rows null

A lone word is short for what a section is mostly for: `model: PATH`, `data: PATH`,
`target: teacher`. Where several kinds are listed, the first is the default. The source says whose
value a default is: the paper's, upstream's (the code that the paper follows), the models' cards',
or ours. The settings of `evaluation` are also those of `purified-opsd evaluate`, without that
word: `--runs 12`.
"""


def settings(
    section: str | None = None,
    /,
    *,
    as_markdown: Annotated[bool, Parameter(name="--markdown")] = False,
) -> None:
    """Say what can be set: every setting's type, default, meaning and source.

    Args:
        section: A section such as optimizer or evaluation.sampling, or one setting; all if left
            out.
        as_markdown: Print docs/settings.md.
    """
    sections = list(section_docs(TrainingConfig))
    if section:
        name = section.replace("-", "_")
        sections = chosen(sections, name)
        if not sections:
            raise SettingsError(_unknown(name))
    if as_markdown:
        print(f"{INTRODUCTION}\n{markdown(sections)}", end="")
        return
    print(terminal(sections, min(WIDEST, shutil.get_terminal_size().columns)), end="")


def _unknown(name: str) -> str:
    """Returns what to say of a dotted name that is neither section nor setting."""
    parent = classes_at(TrainingConfig, name.rpartition(".")[0])
    if not parent:
        return unknown_setting(name.partition(".")[0], TrainingConfig, TrainingConfig, "")
    return unknown_setting(name, parent[0], TrainingConfig, "")
