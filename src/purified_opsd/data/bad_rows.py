"""Rows that cannot be used, and the paragraph that names them."""

from dataclasses import dataclass, field

SHOWN = 5
"""Bad rows that are named; the others are counted."""


class ShapeError(ValueError):
    """A row has not the shape that is asked for, as every other row of its kind has not.

    It is said once of all rows with the same `subject`.
    """

    def __init__(self, subject: str, message: str):
        super().__init__(message)
        self.subject = subject


@dataclass
class BadRow:
    """A row that is named, for itself and for those of which the same is said."""

    where: str
    reason: str
    count: int = 1

    def __str__(self) -> str:
        more = self.count - 1
        rows = "row" if more == 1 else "rows"
        others = f" The same in {more:,} more {rows}." if more else ""
        return f"{self.where}: {self.reason}.{others}"


@dataclass
class BadRows:
    """The bad rows of a set: the first of them, and how many there are."""

    count: int = 0
    shown: list[BadRow] = field(default_factory=list)
    _by_subject: dict[str, BadRow] = field(default_factory=dict)

    @property
    def lack_columns(self) -> bool:
        """Has a row another shape than was asked for?"""
        return bool(self._by_subject)

    def add(self, where: str, error: ValueError) -> None:
        """Counts a row; `where` names its file and number."""
        self.count += 1
        if isinstance(error, ShapeError) and error.subject in self._by_subject:
            self._by_subject[error.subject].count += 1
            return
        row = BadRow(where, str(error))
        if isinstance(error, ShapeError):
            self._by_subject[error.subject] = row
        if len(self.shown) < SHOWN:
            self.shown.append(row)

    def describe(self) -> str:
        """A line for each bad row that is shown, and one for how many are not."""
        lines = [str(row) for row in self.shown]
        more = self.count - sum(row.count for row in self.shown)
        if more:
            lines.append(f"... and {more:,} more.")
        return "\n".join(lines)
