"""No process outlives the one that it works for."""

from __future__ import annotations

import os
import threading
import time

_SECONDS_BETWEEN_LOOKS = 1.0


def end_with_parent() -> None:
    """End this process soon after the one that started it has ended, however that came about.

    Torch's data loader workers look after their parent too, but wait for ever to hand over the
    samples they have already made, if these fill the pipe.
    """
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os._exit(1)
