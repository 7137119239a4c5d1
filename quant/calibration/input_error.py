"""An input that no statistics can be taken from, and where in a run it came."""

from __future__ import annotations

from quant.errors import CalibrationError


class InputError(CalibrationError):
    """A layer's input holds values that are not finite."""

    def __init__(self, layer: str, holds: str, where: str) -> None:
        self._layer, self._holds = layer, holds
        super().__init__(
            f"layer '{layer}': its input holds {holds} {where}; run the model in another --dtype or check its weights"
        )

    def at(self, where: str) -> InputError:
        """The same error, with what somebody further out knows of the place in the run."""
        return InputError(self._layer, self._holds, where)
