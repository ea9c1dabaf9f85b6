"""A completion laid out for a terminal: whose it is, the question, the reference, the text.
Nothing in it can move the cursor.
"""

import textwrap

from purified_opsd.storage.completions import CompletionRow

from .sanitize import visible

REFERENCE_SHOWN = 1_200
"""Characters of a reference that are shown; a reasoning trace would bury what was asked for."""


def layout(completion: CompletionRow, width: int) -> str:
    """One line of RUN/samples/, for a terminal so many columns wide."""
    row = completion.extras
    title = f"── {row['number']} · {visible(completion.id)} "
    whose = row["from"] if row["step"] is None else f"{row['from']}, step {row['step']}"
    if row["from"] == "target":
        whose = ", ".join(
            [
                "purified target",
                *(
                    f"{name} {value:g}"
                    for name, value in row["target"].items()
                    if value is not None
                ),
            ]
        )
    end = "ended by itself" if completion.finish_reason == "stop" else "cut off"
    shown = row["reference"][:REFERENCE_SHOWN]
    more = len(row["reference"]) - len(shown)
    reference = f"{shown} … ({more:,} characters more in the file)" if more else shown
    parts = {
        "Question": row["problem"],
        "Reference": reference,
        f"{whose}: temperature {row['sampling']['temperature']:g}, "
        f"{len(completion.completion_ids)} tokens, {end}": completion.text,
    }
    sections = [
        f"{heading[:1].upper()}{heading[1:]}\n{_body(text, width)}"
        for heading, text in parts.items()
    ]
    return "\n\n".join([title + "─" * max(0, width - len(title)), *sections]) + "\n"


def _body(text: str, width: int) -> str:
    """Indented, its own line breaks kept."""
    wrapper = textwrap.TextWrapper(
        width, initial_indent="  ", subsequent_indent="  ", replace_whitespace=False
    )
    return "\n".join(
        "\n".join(wrapper.wrap(visible(line))) for line in text.strip("\n").split("\n")
    )
