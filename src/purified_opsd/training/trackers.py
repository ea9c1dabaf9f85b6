"""Optional trackers, such as TensorBoard and W&B, through accelerate.

One that is not installed is refused before anything is loaded.  One that fails is reported once
and dropped; training goes on.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker

from purified_opsd.errors import SettingsError

logger = logging.getLogger(__name__)


def refuse_missing_trackers(names: Sequence[str]) -> None:
    """Raises SettingsError for a tracker whose package, which has its name, cannot be imported."""
    for name in names:
        try:
            import_module(name)
        except ImportError as error:
            raise SettingsError(
                f"The tracker {name} is asked for and not installed ({error}): it would be sent "
                f"nothing. Install it with `pip install {name}` (`pip install -e '.[trackers]'` in "
                "the folder of this project's source brings all three), or leave it out of "
                "`trackers`: metrics.jsonl has every number without it."
            ) from error


class Trackers:
    """The trackers of a run, which are sent the numbers of each step."""

    def __init__(self, names: tuple[str, ...], folder: Path, config: Mapping[str, Any]):
        self.live: dict[str, GeneralTracker] = {}
        for name in names:
            try:
                self.live[name] = _start(name, folder, config)
            except Exception as error:  # whatever a tracker raises, training must not stop for it
                _warn(name, error)

    def log(self, row: Mapping[str, Any]) -> None:
        values = dict(_flat(row))
        self._call_all(lambda tracker: tracker.log(values, step=row["step"]))

    def close(self) -> None:
        self._call_all(lambda tracker: tracker.finish())

    def _call_all(self, action: Callable[[GeneralTracker], Any]) -> None:
        for name, tracker in list(self.live.items()):
            try:
                action(tracker)
            except Exception as error:  # as above
                del self.live[name]
                _warn(name, error)


def _start(name: str, folder: Path, config: Mapping[str, Any]) -> GeneralTracker:
    tracker_class = LOGGER_TYPE_TO_CLASS[name]
    options = {}
    if tracker_class.requires_logging_directory:
        options["logging_dir"] = str(folder / "trackers")
    tracker = tracker_class(folder.name, **options)
    tracker.start()
    tracker.store_init_configuration(dict(_flat(config)))
    return tracker


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the numbers and texts of nested mappings, each under its path."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}/")
        elif isinstance(value, int | float | str):
            yield f"{prefix}{key}", value


def _warn(name: str, error: Exception) -> None:
    logger.warning(
        "The tracker %s is left out from here on: %s: %s. Training goes on; metrics.jsonl has "
        "every number.",
        name,
        type(error).__name__,
        error,
    )
