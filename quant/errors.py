"""Errors a user can act on.

Each message is one line that names the file, layer or key and says what would be right. The command line
prints it and exits with status 2; anything else that escapes is a defect of this library.
"""

from quant import text


def interrupt_within(error: BaseException) -> KeyboardInterrupt | None:
    """The interrupt that an error was raised from, or while; None where there was none.

    Python 3.11 wraps one that comes while a class is made, and diffusers one that comes while it opens a file.
    """
    found: BaseException | None = error
    while found is not None and not isinstance(found, KeyboardInterrupt):
        found = found.__cause__ or found.__context__
    return found


class QuantError(Exception):
    """Base of every error that a user's input, model or file can cause.

    The message is one printable line of at most 2,000 characters, whatever a file put into it.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(text.message(str(message)))


class QuantWarning(UserWarning):
    """What a user should know of a run that goes on; the command line prints it as a note."""


class RecipeError(QuantError):
    """A recipe, or a scheme in it, that cannot be read or does not fit the model."""


class ModelError(QuantError):
    """A model that is missing, of an unexpected kind, or whose weights are not finite."""


class CalibrationError(QuantError):
    """Prompts or activations that no statistics can be taken from."""


class UnrecordedError(CalibrationError):
    """Calls of a denoiser that cannot be recorded, or not be made again without its pipeline."""


class CheckpointError(QuantError):
    """A checkpoint folder that is incomplete, damaged, of an unknown version, or in the way."""


class KernelChoiceError(QuantError):
    """A kernel was asked for that cannot run here or there, or no GPU is there to measure on."""
