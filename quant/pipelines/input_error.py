"""An input that no statistics can be taken from, and where in a run it came."""

from __future__ import annotations

from quant.errors import CalibrationError


class InputError(CalibrationError):
    """A layer's input holds values that are not finite."""

    _layer, _holds = "", ""

    @classmethod
    def of(cls, layer: str, holds: str, where: str) -> InputError:
        """The error of one input: what it holds, NaN or Inf, and where in the run."""
        error = cls(
            f"layer '{layer}': its input holds {holds} {where}; run the model in another --dtype or check its weights"
        )
        error._layer, error._holds = layer, holds
        return error

    def at(self, where: str) -> InputError:
        """The same error, with what somebody further out knows of the place in the run."""
        return self.of(self._layer, self._holds, where)
