"""`--try`: a query asked over HTTP, its answer as a small table."""

import time

import httpx
from rich.console import Group
from rich.table import Table
from rich.text import Text

from raylevance.errors import RaylevanceError
from serve.messages import Answer, Failure

HITS = 5


def ask(server: str, query: str) -> tuple[Answer, float]:
    """The answer of the server at the URL `server`, and how long it took over HTTP, in milliseconds.

    Raises `RaylevanceError` with the server's own line where it answers with a failure.
    """
    started = time.perf_counter()
    response = httpx.post(f"{server}/v1/search", json={"query": query, "k": HITS}, timeout=60, trust_env=False)
    took = 1000 * (time.perf_counter() - started)
    if response.is_error:
        raise RaylevanceError(f"{query!r}: {Failure.model_validate_json(response.content).error.message}")
    return Answer.model_validate_json(response.content), took


def as_table(answer: Answer, took_ms: float) -> Group:
    """Rank, grade, score and title of each hit under the query; what made them beneath."""
    versions = answer.versions
    made_by = [f"{took_ms:.0f} ms", versions.index, versions.encoder, versions.tables]
    table = Table(box=None, pad_edge=False)
    for name in ("rank", "grade", "score"):
        table.add_column(name, justify="right", no_wrap=True, min_width=len("0.0000"))
    table.add_column("title", no_wrap=True, overflow="ellipsis")
    for rank, hit in enumerate(answer.hits, 1):
        table.add_row(str(rank), str(hit.grade), f"{hit.score:.4f}", _plain(hit.title))
    return Group(_plain(f'"{answer.query}" ({answer.mode})'), table, _plain(" | ".join(made_by)))


def _plain(text: str) -> Text:
    """`text` as it is: a title's markup or control characters do nothing to the terminal."""
    return Text("".join(character if character.isprintable() else " " for character in text))
