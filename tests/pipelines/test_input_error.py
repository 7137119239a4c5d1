"""Errors are made anew from their text, by whoever has more to say, and cross between processes."""

from __future__ import annotations

import pickle

from quant.errors import CalibrationError
from quant.pipelines.input_error import InputError

PLACE = "; run the model in another --dtype or check its weights"


def test_an_error_is_its_text_wherever_it_goes() -> None:
    error = InputError.of("blocks.0", "NaN", "in its call 3")
    assert str(error) == f"layer 'blocks.0': its input holds NaN in its call 3{PLACE}"
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, CalibrationError) and isinstance(again, InputError)
    for each in (error, again):
        assert str(each.at("at step 2")) == f"layer 'blocks.0': its input holds NaN at step 2{PLACE}"
    assert str(type(error)(f"{error}; more")) == f"{error}; more"
