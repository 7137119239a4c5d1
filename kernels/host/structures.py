"""The parameters of the CUDA kernels as ctypes sees them: field for field the structs in `kernels/cuda`."""

from __future__ import annotations

import ctypes

import torch

#: `enum Dtype` of numbers.cuh.
DTYPES = {torch.bfloat16: 0, torch.float16: 1, torch.float32: 2, torch.int8: 3, torch.float8_e4m3fn: 4}
#: `enum Activation` of epilogue.cuh.
ACTIVATIONS = {"none": 0, "gelu": 1, "gelu_tanh": 2, "silu": 3}
#: `enum Norm` of quantize_rows.cu.
NORMS = {"none": 0, "layer": 1, "rms": 2}


class Rows(ctypes.Structure):
    """rows.cuh."""

    _fields_ = (
        ("base", ctypes.c_void_p),
        ("outer_stride", ctypes.c_int64),
        ("middle_stride", ctypes.c_int64),
        ("inner_stride", ctypes.c_int64),
        ("middle", ctypes.c_int32),
        ("inner", ctypes.c_int32),
        ("dtype", ctypes.c_int32),
    )


class Epilogue(ctypes.Structure):
    """epilogue.cuh."""

    _fields_ = (
        ("b_scale", Rows),
        ("bias", Rows),
        ("residual", Rows),
        ("gate", Rows),
        ("a_scale", ctypes.c_void_p),
        ("out_scale", ctypes.c_void_p),
        ("a_scale_stride", ctypes.c_int64),
    )


class MmaArguments(ctypes.Structure):
    """mma_gemm.cuh."""

    _fields_ = (
        ("a", ctypes.c_void_p),
        ("b", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("a_stride", ctypes.c_int64),
        ("b_stride", ctypes.c_int64),
        ("b_block_scales", ctypes.c_void_p),
        ("a_block_scales", ctypes.c_void_p),
        ("m", ctypes.c_int32),
        ("n", ctypes.c_int32),
        ("k", ctypes.c_int32),
        ("k_blocks", ctypes.c_int32),
        ("epilogue", Epilogue),
    )


class HopperArguments(ctypes.Structure):
    """sm90_gemm.cuh. Whoever launches fills the maps. A multiple of 64 bytes, to which maps are aligned."""

    _fields_ = (
        ("a", ctypes.c_uint8 * 128),
        ("b", ctypes.c_uint8 * 128),
        ("out", ctypes.c_uint8 * 128),
        ("result", ctypes.c_void_p),
        ("b_block_scales", ctypes.c_void_p),
        ("a_block_scales", ctypes.c_void_p),
        ("m", ctypes.c_int32),
        ("n", ctypes.c_int32),
        ("k", ctypes.c_int32),
        ("k_blocks", ctypes.c_int32),
        ("epilogue", Epilogue),
    )


class GroupScales(ctypes.Structure):
    """int4_scales.cuh."""

    _fields_ = (
        ("scales", ctypes.c_void_p),
        ("zeros", ctypes.c_void_p),
        ("groups", ctypes.c_int32),
        ("blocks", ctypes.c_int32),
        ("steps", ctypes.c_int32),
        ("dtype", ctypes.c_int32),
    )


class SwapArguments(ctypes.Structure):
    """mma_swap_ab.cuh."""

    _fields_ = (
        ("a", ctypes.c_void_p),
        ("a_stride", ctypes.c_int64),
        ("weight", ctypes.c_void_p),
        ("metadata", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("m", ctypes.c_int32),
        ("n", ctypes.c_int32),
        ("k", ctypes.c_int32),
        ("slabs", ctypes.c_int32),
        ("blocks", ctypes.c_int32),
        ("promote_slabs", ctypes.c_int32),
        ("scales", GroupScales),
        ("epilogue", Epilogue),
    )


class HopperSwapArguments(ctypes.Structure):
    """sm90_swap_ab.cuh. Whoever launches fills the maps."""

    _fields_ = (
        ("a", ctypes.c_uint8 * 128),
        ("weight", ctypes.c_uint8 * 128),
        ("metadata", ctypes.c_uint8 * 128),
        ("out", ctypes.c_void_p),
        ("m", ctypes.c_int32),
        ("n", ctypes.c_int32),
        ("k", ctypes.c_int32),
        ("weight_rows", ctypes.c_int32),
        ("promote_steps", ctypes.c_int32),
        ("scales", GroupScales),
        ("epilogue", Epilogue),
        # C++ makes a structure as long as a multiple of 64 bytes, to which maps are aligned.
        ("unused", ctypes.c_uint8 * 40),
    )


class QuantizeArguments(ctypes.Structure):
    """quantize_rows.cu."""

    _fields_ = (
        ("x", Rows),
        ("norm_weight", Rows),
        ("norm_bias", Rows),
        ("modulation_scale", Rows),
        ("modulation_shift", Rows),
        ("pre_quant_scale", Rows),
        ("static_scale", ctypes.c_void_p),
        ("codes", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("m", ctypes.c_int32),
        ("k", ctypes.c_int32),
        ("eps", ctypes.c_float),
    )
