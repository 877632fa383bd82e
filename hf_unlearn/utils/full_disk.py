"""Whether an error comes of a full disk, whichever library raised it."""

from __future__ import annotations

import errno
import os
import shutil

LEFT = 1 << 16  # bytes that may be free on a disk that a library could not write to


def full_disk(error: BaseException, folder: str | None = None) -> OSError | BaseException | None:
    """
    The error among an error and its causes that tells of a full disk; None if there is none.

    Args:
        folder: where was written to; an error that says nothing of a disk, as PyTorch's, is then one of a full disk
            where none is free there.
    """
    cause: BaseException | None = error
    while cause is not None:
        if getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(cause):
            return cause
        cause = cause.__cause__ or cause.__context__
    if folder is not None and os.path.isdir(folder) and shutil.disk_usage(folder).free < LEFT:
        return error
    return None
