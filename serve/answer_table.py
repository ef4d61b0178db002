"""Answers as a small table, for `--try`."""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from raylevance.client.messages import Answer


def format_answer(answer: Answer, took_ms: float) -> Group:
    """Format an answer as its query, a table with rank, grade, score and title of each hit, and the versions."""
    versions = answer.versions
    made_by = [f"{took_ms:.0f} ms", versions.index, versions.encoder, versions.tables]
    table = Table(box=None, pad_edge=False)
    for name in ("rank", "grade", "score"):
        table.add_column(name, justify="right", no_wrap=True, min_width=len("000.0000"))
    table.add_column("title", no_wrap=True, overflow="ellipsis")
    for rank, hit in enumerate(answer.hits, 1):
        grade = "-" if hit.grade is None else str(hit.grade)
        table.add_row(str(rank), grade, f"{hit.score:.4f}", _printable(hit.title))
    return Group(_printable(f'"{answer.query}" ({answer.mode})'), table, _printable(" | ".join(made_by)))


def _printable(text: str) -> Text:
    """Return `text` so that markup or control characters in it have no effect on the terminal."""
    return Text("".join(character if character.isprintable() else " " for character in text))
