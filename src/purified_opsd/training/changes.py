"""What a run that goes on has otherwise than its checkpoint was trained with.

A change is refused unless it is asked for by name; then it stands in the run's record with the step
after which it came in, of this resume and of all before.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from purified_opsd.errors import CheckpointError
from purified_opsd.storage.run_dir import ChangeRow

from .checkpoint import CheckpointState
from .config import default_identity

Values = dict[str, str]

TRAINING_SET = "training set"
MODEL = "model"
BY_FINGERPRINT = (TRAINING_SET, MODEL)
"""Everything else is a setting."""


@dataclass(frozen=True)
class Changes:
    """What is not as it was after `step` steps, by name; a name on one side alone is in the other
    no setting at all.
    """

    step: int
    before: Values
    after: Values

    def __bool__(self) -> bool:
        return bool(self.names)

    @property
    def names(self) -> list[str]:
        return sorted(self.before.keys() | self.after.keys())

    @property
    def impossible(self) -> list[str]:
        """The changes under which no checkpoint of the run would fit the model."""
        return [name for name in self.names if name == MODEL or _shapes_adapter(name)]

    def without(self, names: Sequence[str]) -> "Changes":
        """Returns the changes of other names."""
        before = {name: value for name, value in self.before.items() if name not in names}
        after = {name: value for name, value in self.after.items() if name not in names}
        return Changes(self.step, before, after)

    def row(self) -> ChangeRow:
        """Returns what the run's record says of them."""
        return ChangeRow(
            step=self.step,
            changed={name: (self.before.get(name), self.after.get(name)) for name in self.names},
        )


AcceptChanges = Callable[[Path, Changes], None]
"""Raises CheckpointError for changes of a run in a folder that it does not let pass."""


def changed_settings(step: int, before: Values, after: Values) -> Changes:
    """Returns the settings that are not as they were after `step` steps.  One that the record does
    not know, for it is newer than the run, was as it is by default.
    """
    unknown = default_identity().items() - before.items()
    newer = {name: value for name, value in unknown if name not in before and name in after}
    known = newer | before
    return Changes(step, _only_in(known, after), _only_in(after, known))


def changes_since(saved: CheckpointState, now: CheckpointState) -> Changes:
    """Returns all that is not as a checkpoint was saved with: settings, training set and base."""
    return changed_settings(saved.step, _values(saved), _values(now))


def not_recorded(changes: Changes, record: Sequence[ChangeRow]) -> Changes:
    """Returns the changes that no earlier resume was allowed at this step or a later one.

    Those of later steps come back where the newest checkpoint is older than they are.
    """
    allowed: dict[str, str | None] = {}
    for row in record:
        if row.step >= changes.step:
            allowed |= {name: after for name, (_, after) in row.changed.items()}
    known = [
        name
        for name in changes.names
        if name in allowed and allowed[name] == changes.after.get(name)
    ]
    return changes.without(known)


def recorded_with(record: Sequence[ChangeRow], changes: Changes) -> list[ChangeRow]:
    """Returns the record of a run that goes on with these changes: what came in later than their
    step is forgotten, since its steps are taken again.
    """
    earlier = [row for row in record if row.step < changes.step]
    return [*earlier, changes.row()] if changes else earlier


def refuse_changes(folder: Path, changes: Changes) -> None:
    """Raises CheckpointError for any change."""
    if not changes:
        return
    _refuse_impossible(changes)
    raise CheckpointError(
        f"{_sentences(changes)} What followed would not be the same run. Bring back what it began "
        "with, or start a new run; or repeat the command with --allow-changes, which takes the "
        f"change and records it with its step in {folder / 'changes.json'}."
    )


def permit_changes(folder: Path, changes: Changes) -> None:
    """Raises CheckpointError only where the run's checkpoints would not fit the model."""
    _refuse_impossible(changes)


def change_lines(changes: Changes) -> list[str]:
    """Returns `optimizer.learning_rate: 5e-06 -> 0.001` for each change."""
    return [
        f"{name}: {changes.before.get(name, 'not set')} -> {changes.after.get(name, 'not set')}"
        for name in changes.names
    ]


def _refuse_impossible(changes: Changes) -> None:
    if changes.impossible:
        raise CheckpointError(
            f"{_sentences(changes)} What followed would not be the same run, and its checkpoints "
            f"would not fit: {', '.join(changes.impossible)} can never change, not even with "
            "--allow-changes. Bring back what it began with, or start a new run."
        )


def _sentences(changes: Changes) -> str:
    """`The setting seed has changed since step 4: the run was made with seed=0, and now has ...`"""
    sentences = [
        _sentence(f"The {name} has", changes.step, changes.before[name], changes.after[name])
        for name in BY_FINGERPRINT
        if name in changes.names
    ]
    settings = changes.without(BY_FINGERPRINT)
    if settings:
        sections = list(dict.fromkeys(name.partition(".")[0] for name in settings.names))
        subject = f"The setting {sections[0]} has"
        if len(sections) > 1:
            subject = f"The settings {', '.join(sections[:-1])} and {sections[-1]} have"
        before, after = _assignments(settings.before), _assignments(settings.after)
        sentences.append(_sentence(subject, changes.step, before, after))
    if "steps" in settings.names:
        sentences.append("Under this schedule the number of steps decides every learning rate.")
    return " ".join(sentences)


def _sentence(subject: str, step: int, before: str, after: str) -> str:
    return (
        f"{subject} changed since step {step}: the run was made with {before}, and now has {after}."
    )


def _assignments(values: Values) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(values.items())) or "none of them"


def _values(state: CheckpointState) -> Values:
    return {**state.settings, TRAINING_SET: state.data, MODEL: state.model}


def _only_in(one: Mapping[str, str], other: Mapping[str, str]) -> Values:
    return {name: value for name, value in one.items() if other.get(name) != value}


def _shapes_adapter(name: str) -> bool:
    """Whether tensors or scale of the adapter follow from this setting."""
    return name.startswith("adapter.") and name != "adapter.dropout"
