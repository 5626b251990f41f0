"""An image is whole, and has the size that its annotations were made for."""

from __future__ import annotations

import os

from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmdet.registry import TRANSFORMS

from .errors import DataError

_START, _SCAN, _END = b'\xff\xd8', b'\xff\xda', b'\xff\xd9'


@TRANSFORMS.register_module()
class MatchAnnotatedSize(BaseTransform):
    """Compares a loaded image with the size in its annotations; for use after loading.

    Loading turns an image as its EXIF data say. Where the annotations have the sides of the
    unturned image, it is loaded unturned instead. Images without annotations pass.

    Args:
        backend_args (dict, optional): Of the storage that images come from. Default: None.
    """

    def __init__(self, backend_args: dict | None = None) -> None:
        self._load_unturned = LoadImageFromFile(
            color_type='color_ignore_orientation', backend_args=backend_args
        )

    def transform(self, results: dict) -> dict:
        """Check ``results['img']``, ``(H, W, C)`` uint8, against the annotated size.

        Raises:
            DataError: If the sizes differ otherwise than by the orientation.
        """
        if 'height' not in results or 'width' not in results:
            return results
        annotated = (results['height'], results['width'])
        loaded = results['img'].shape[:2]
        if loaded == annotated[::-1] != annotated:
            kind = results['img'].dtype
            results = self._load_unturned(results)
            results['img'] = results['img'].astype(kind)
            loaded = results['img_shape']
        if loaded != annotated:
            raise DataError(
                f'the file has {loaded[0]}x{loaded[1]} pixels (height x width), '
                f'its annotations say {annotated[0]}x{annotated[1]}'
            )
        return results


@TRANSFORMS.register_module()
class CheckJPEGEnd(BaseTransform):
    """Refuses local JPEG files without an end marker; for use before loading.

    OpenCV up to 4.10 makes an image of the part that is there, grey below it, and only later ones
    refuse it. Truncated files of other formats, and of other storages than the local one, are
    left to OpenCV.
    """

    def transform(self, results: dict) -> dict:
        """Check the file ``results['img_path']``.

        Raises:
            DataError: If it is a JPEG that was cut off.
        """
        path = results['img_path']
        if os.path.isfile(path) and _is_cut(path):
            raise DataError('the JPEG file was cut off (it has no end marker): fetch it again')
        return results


def _is_cut(path: str) -> bool:
    with open(path, 'rb', buffering=0) as file:
        if file.read(2) != _START:
            return False
        file.seek(-2, os.SEEK_END)
        if file.read(2) == _END:
            return False
        # Some writers add bytes of their own. Neither marker occurs inside of a scan, and those
        # of a thumbnail come before the image's.
        file.seek(0)
        content = file.read()
    return content.rfind(_END) < content.rfind(_SCAN) or _SCAN not in content
