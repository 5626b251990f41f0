"""A process whose user has no account, as in a container started with a number for its user."""

from __future__ import annotations

import getpass
import os
import pathlib


def stand_in_for_account() -> None:
    """Set ``LOGNAME`` and ``HOME`` where the system knows neither name nor home of the user.

    torch and yapf, which MMEngine imports, ask for them and end the import otherwise
    (pytorch/pytorch#140765). The home is ``/``, Docker's choice, which such a user cannot write to;
    a folder for what is compiled is named with ``MMDET_ATC_CACHE``.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ['LOGNAME'] = f'uid{os.getuid()}'
    try:
        pathlib.Path.home()
    except RuntimeError:
        os.environ['HOME'] = '/'
