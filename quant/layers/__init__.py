"""The layers a loaded model runs: packed tensors and one op call each."""
