"""What is compared: every shipped recipe, steps towards some, and the same layers by ModelOpt and by SDNQ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from quant.recipe import Recipe
from quant.recipe_files import find_recipe

Maker = Literal["quant", "ModelOpt", "SDNQ"]


@dataclass(frozen=True)
class Candidate:
    """One way to make a model smaller.

    Attributes:
        maker: who does it.
        name: the recipe's name, or the rival's own word for it; unique with its maker.
        level: candidates of a level are compared with each other; one of `LEVELS`.
        goal: mean paired PSNR in dB that this project set itself; None where it set none.
        beside: key of another candidate and a difference in dB: the goal is that one's mean and so much more.
        options: what the rival is given; of "quant", a recipe that is a step towards a shipped one.
        kinds: classes of layers that the rival can change, where not all; it leaves the others, to its advantage.
    """

    maker: Maker
    name: str
    level: str
    goal: float | None = None
    beside: tuple[str, float] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()

    @property
    def is_step(self) -> bool:
        """Is it a step towards a shipped recipe?"""
        return self.maker == "quant" and bool(self.options)

    @property
    def is_recipe(self) -> bool:
        """Is it one that is shipped, and not a step towards one?"""
        return self.maker == "quant" and not self.is_step

    @property
    def recipe(self) -> Recipe:
        """The shipped recipe of this name, or the one that the options spell out."""
        if self.is_recipe:
            return find_recipe(self.name)
        return Recipe.from_dict({"version": 1, **self.options}, self.name)

    @property
    def key(self) -> str:
        """Its name among all."""
        return f"{self.maker}: {self.name}"


#: In the order of the table, each with the recipe whose layers its rivals change.
LEVELS = {
    "FP8 weights and inputs": "fp8-dynamic",
    "INT8 weights and inputs": "w8a8",
    "8-bit weights": "w8a16",
    "INT4 weights": "w4a16",
    "INT4 weights, 8-bit inputs": "w4a8",
    "2:4, feed-forward layers": "sparse24",
    "2:4, every layer": "sparse24-all",
    "mixed": "mixed",
}
_FP8, _INT8, _W8, _W4, _W4A8, _SPARSE, _ALL, _MIXED = LEVELS

#: What finds nothing in data is shown one prompt instead of all.
_ONE = {"samples": 1}
_INT8_TOKEN = {"axis": None, "type": "dynamic", "block_sizes": {-1: None}, "num_bits": 8}


def _step(
    scheme: str | None = None, *, sparsity: str | None = None, ffn: bool = False, **fields: Any
) -> dict[str, Any]:
    """A recipe of one group, over every layer of the blocks or over the feed-forward ones."""
    group: dict[str, Any] = {"targets": [r"re:.*\bffn\..*" if ffn else "Linear"], **fields}
    if scheme is not None:
        group["scheme"] = scheme
    if sparsity is not None:
        group["sparsity"] = {"method": sparsity}
    return {"groups": [group]}


#: ModelOpt 0.47 has 2:4 masks for these, and SparseGPT raises on convolutions.
_2_4 = ("Linear", "Conv2d")
_SDNQ_SVD = {"use_svd": True, "svd_rank": 32}

CANDIDATES = (
    Candidate("quant", "fp8-dynamic", _FP8, 42.5),
    Candidate("quant", "fp8-gptq", _FP8, 42.5),
    Candidate("quant", "fp8-static", _FP8),
    Candidate("quant", "fp8-block", _FP8),
    Candidate("ModelOpt", "FP8_DEFAULT", _FP8, options={"config": "FP8_DEFAULT_CFG"}),
    Candidate(
        "ModelOpt", "FP8_PER_CHANNEL_PER_TOKEN", _FP8, options={"config": "FP8_PER_CHANNEL_PER_TOKEN_CFG", **_ONE}
    ),
    Candidate("SDNQ", "fp8, FP8 matmul", _FP8, options={"weights_dtype": "fp8", "use_quantized_matmul": True}),
    Candidate("quant", "w8a8", _INT8, 53),
    Candidate("quant", "w8a8-gptq", _INT8, 53),
    Candidate("ModelOpt", "INT8_DEFAULT", _INT8, options={"config": "INT8_DEFAULT_CFG"}),
    Candidate("ModelOpt", "INT8_SMOOTHQUANT, alpha 0.5", _INT8, options={"config": "INT8_DEFAULT_CFG", "alpha": 0.5}),
    Candidate(
        "ModelOpt",
        "INT8 per channel x token",
        _INT8,
        options={"config": "INT8_DEFAULT_CFG", "input": _INT8_TOKEN, **_ONE},
    ),
    Candidate("SDNQ", "int8, INT8 matmul", _INT8, options={"weights_dtype": "int8", "use_quantized_matmul": True}),
    Candidate("quant", "w8a16", _W8),
    Candidate("ModelOpt", "INT8_WEIGHT_ONLY", _W8, options={"config": "INT8_WEIGHT_ONLY_CFG", **_ONE}),
    Candidate("SDNQ", "int8", _W8, options={"weights_dtype": "int8"}),
    Candidate("quant", "w4a16", _W4),
    Candidate("quant", "w4a16-gptq", _W4, 36),
    Candidate("quant", "GPTQ, refined", _W4, options=_step("W4A16", algorithm={"name": "gptq", "refine": True})),
    Candidate("quant", "AWQ, then GPTQ", _W4, options=_step("W4A16", algorithm={"name": "awq", "rounding": "gptq"})),
    Candidate("quant", "SVDQuant rank 16", _W4, options=_step("W4A16", algorithm={"name": "svdquant", "rank": 16})),
    Candidate(
        "ModelOpt", "INT4_BLOCKWISE_WEIGHT_ONLY", _W4, options={"config": "INT4_BLOCKWISE_WEIGHT_ONLY_CFG", **_ONE}
    ),
    Candidate("ModelOpt", "INT4_AWQ", _W4, options={"config": "INT4_AWQ_CFG"}),
    Candidate("SDNQ", "int4 g128", _W4, options={"weights_dtype": "int4", "group_size": 128}),
    Candidate("SDNQ", "uint4 g128", _W4, options={"weights_dtype": "uint4", "group_size": 128}),
    Candidate(
        "SDNQ",
        "uint4 g128 + Hadamard",
        _W4,
        options={"weights_dtype": "uint4", "group_size": 128, "use_hadamard": True},
    ),
    Candidate(
        "SDNQ", "uint4 g128 + SVD rank 32", _W4, options={"weights_dtype": "uint4", "group_size": 128, **_SDNQ_SVD}
    ),
    Candidate("quant", "w4a8", _W4A8, 34),
    Candidate("quant", "w4afp8", _W4A8, 34),
    Candidate("ModelOpt", "W4A8_AWQ_BETA", _W4A8, options={"config": "W4A8_AWQ_BETA_CFG"}),
    Candidate("quant", "sparse24", _SPARSE, 29),
    Candidate("quant", "sparse24-fp8", _SPARSE, beside=("quant: sparse24", -0.5)),
    Candidate("quant", "sparse24-w8a8", _SPARSE, beside=("quant: sparse24", -0.5)),
    Candidate("quant", "Wanda", _SPARSE, options=_step(sparsity="wanda", ffn=True)),
    Candidate("quant", "SparseGPT", _SPARSE, options=_step(sparsity="sparsegpt", ffn=True)),
    Candidate("ModelOpt", "sparse_magnitude", _SPARSE, options={"sparsify": "sparse_magnitude", **_ONE}, kinds=_2_4),
    Candidate("ModelOpt", "sparsegpt", _SPARSE, options={"sparsify": "sparsegpt"}, kinds=("Linear",)),
    Candidate("quant", "sparse24-all", _ALL, beside=("ModelOpt: sparse_magnitude, every layer", 5)),
    Candidate("quant", "SparseGPT, every layer", _ALL, options=_step(sparsity="sparsegpt")),
    Candidate("quant", "mixed", _MIXED),
    Candidate(
        "ModelOpt", "sparse_magnitude, every layer", _ALL, options={"sparsify": "sparse_magnitude", **_ONE}, kinds=_2_4
    ),
    Candidate("ModelOpt", "sparsegpt, every layer", _ALL, options={"sparsify": "sparsegpt"}, kinds=("Linear",)),
)
