"""A quick look at few images, whose figures count only these."""

from __future__ import annotations

import json
from pathlib import Path


def limit_annotations(source: Path, target: Path, limit: int) -> None:
    """Write a COCO annotation file of the first images of another one.

    Limiting the data set alone would count the other images' objects as missed.

    Args:
        source (Path): COCO annotation file.
        target (Path): File to write.
        limit (int): Number of images.
    """
    content = json.loads(source.read_text())
    content['images'] = content['images'][:limit]
    kept = {image['id'] for image in content['images']}
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] in kept]
    target.write_text(json.dumps(content))
