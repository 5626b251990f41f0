"""What is raised where a data set cannot be used."""

from __future__ import annotations


class DataError(ValueError):
    """An image or an annotation is missing, damaged or not allowed; the message says which."""


def first_line(error: Exception) -> str:
    """The first line of an error's message, or the name of its kind where it has none."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0]
