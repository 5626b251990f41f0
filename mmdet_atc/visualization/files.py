"""Which images are meant, and what their pictures are called."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS


def find_images(sources: Sequence[str]) -> list[Path]:
    """Image files that are named, lie in a folder or match a pattern.

    Args:
        sources (Sequence[str]): Files, folders (their images, not those of folders below) and
            patterns (``**`` matches any folders). Of a folder or pattern only files that end as
            images do are taken.

    Returns:
        list[Path]: Each file once, in the order of the sources, sorted within each.

    Raises:
        ValueError: If a source gives no image; all such are named.
    """
    found: dict[str, Path] = {}
    empty = []
    for source in sources:
        if os.path.isfile(source):
            paths = [source]
        elif os.path.isdir(source):
            paths = _images(glob.glob(os.path.join(glob.escape(source), '*')))
        else:
            paths = _images(glob.glob(source, recursive=True))
        if not paths:
            empty.append(source)
        for path in paths:
            found.setdefault(os.path.abspath(path), Path(path))
    if empty:
        raise ValueError(
            f'no such image: {", ".join(empty)} (neither an image file, nor a folder with images '
            'or a pattern that matches some)'
        )
    return list(found.values())


def picture_names(paths: Sequence[Path]) -> list[Path]:
    """A place for the picture of each image, below one folder.

    Args:
        paths (Sequence[Path]): Different image files.

    Returns:
        list[Path]: Relative paths without a suffix, no two alike: the images' own, seen from the
        deepest folder that holds them all. Of ``1.jpg`` and ``1.png`` the second keeps its suffix.
    """
    absolute = [Path(os.path.abspath(path)) for path in paths]
    top = os.path.commonpath([path.parent for path in absolute]) if absolute else ''
    names: list[Path] = []
    taken: set[str] = set()
    for path in absolute:
        own = path.relative_to(top)
        stem = own.with_suffix('')
        numbered = (own.with_name(f'{own.name}_{number}') for number in count(2))
        # Some file systems do not tell capitals from small letters.
        name = next(n for n in chain([stem, own], numbered) if str(n).casefold() not in taken)
        taken.add(str(name).casefold())
        names.append(name)
    return names


def _images(paths: list[str]) -> list[str]:
    return sorted(
        path for path in paths if path.lower().endswith(IMG_EXTENSIONS) and os.path.isfile(path)
    )
