"""What a terminal shows: tables, and a completion with its question and reference.

Nothing in what a model wrote can move the cursor.
"""

import textwrap
from collections.abc import Sequence

from purified_opsd.storage.completions import CompletionRow

from .sanitize import visible

REFERENCE_SHOWN = 1_200
"""Characters of a reference that are shown; a reasoning trace would bury what was asked for."""


def completion_text(completion: CompletionRow, width: int) -> str:
    """One line of RUN/samples/, for a terminal so many columns wide."""
    row = completion.extras
    title = f"── {row['number']} · {visible(completion.id)} "
    parts = {
        "Question": row["problem"],
        "Reference": _beginning(row["reference"]),
        _heading(completion): completion.text,
    }
    sections = [f"{heading}\n{_body(text, width)}" for heading, text in parts.items()]
    return "\n\n".join([title + "─" * max(0, width - len(title)), *sections]) + "\n"


def _heading(completion: CompletionRow) -> str:
    """Says whose completion it is, and how it was drawn."""
    row = completion.extras
    author = row["from"] if row["step"] is None else f"{row['from']}, step {row['step']}"
    if row["from"] == "target":
        settings = {name: value for name, value in row["target"].items() if value is not None}
        author = ", ".join(
            ["purified target", *(f"{name} {value:g}" for name, value in settings.items())]
        )
    end = "ended by itself" if completion.finish_reason == "stop" else "cut off"
    temperature, tokens = row["sampling"]["temperature"], len(completion.completion_ids)
    heading = f"{author}: temperature {temperature:g}, {tokens} tokens, {end}"
    return heading[:1].upper() + heading[1:]


def _beginning(reference: str) -> str:
    shown = reference[:REFERENCE_SHOWN]
    more = len(reference) - len(shown)
    return f"{shown} … ({more:,} characters more in the file)" if more else shown


def _body(text: str, width: int) -> str:
    """Indented, its own line breaks kept."""
    wrapper = textwrap.TextWrapper(
        width, initial_indent="  ", subsequent_indent="  ", replace_whitespace=False
    )
    return "\n".join(
        "\n".join(wrapper.wrap(visible(line))) for line in text.strip("\n").split("\n")
    )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that also reads well in a terminal.

    The first column stands to the left, numbers to the right.
    """
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    rules = ["-" * (width + 1) + (":" if column else "-") for column, width in enumerate(widths)]
    lines = [_line(header, widths), f"|{'|'.join(rules)}|", *(_line(row, widths) for row in rows)]
    return "\n".join(lines) + "\n"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        (cell.rjust if column else cell.ljust)(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return f"| {' | '.join([first, *others])} |"
