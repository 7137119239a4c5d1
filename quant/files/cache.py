"""The user's cache: what takes long to compile, to fetch or to read lies in one folder."""

from pathlib import Path

from quant.errors import QuantError
from quant.kernels.runtime.cubins import CACHE_VARIABLE, cache_dir
from quant.kernels.runtime.errors import KernelError

__all__ = ["CACHE_VARIABLE", "cache_folder"]


def cache_folder(what: str) -> Path:
    """The user's folder of what takes long to make or to fetch, where compiled kernels lie.

    Raises:
        QuantError: there is no home folder to keep `what` in, and the environment names none.
    """
    try:
        return cache_dir()
    except KernelError:
        raise QuantError(f"no home folder to keep {what} in: set {CACHE_VARIABLE}") from None
