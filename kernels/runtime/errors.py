"""The error of a kernel that cannot be compiled, cached, loaded or launched, and how to get what is missing."""

#: Ends every message about a missing or mismatched package.
INSTALL = "pip install 'quant-video[cuda13]', or 'quant-video[cuda12]' where the driver is older than CUDA 13"


class KernelError(RuntimeError):
    """A kernel that this machine cannot compile, cache, load or launch; the message says what would be right."""


def one_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split())
