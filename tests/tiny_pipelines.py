"""Untrained pipelines of a dozen kinds, each of some hundred kilobytes: what their calls take differs in every way.

`KINDS` has one entry a kind: how it is made, and a row of inputs with its settings. A denoiser alone is
`make(name).components["transformer"]` or `["unet"]`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import (
    AnimateDiffPipeline,
    AnimateDiffVideoToVideoPipeline,
    AutoencoderKL,
    AutoencoderKLLTXVideo,
    AutoencoderKLTemporalDecoder,
    AutoencoderKLWan,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LattePipeline,
    LatteTransformer3DModel,
    LTXConditionPipeline,
    LTXVideoTransformer3DModel,
    MotionAdapter,
    SkyReelsV2DiffusionForcingVideoToVideoPipeline,
    SkyReelsV2Transformer3DModel,
    StableVideoDiffusionPipeline,
    TextToVideoSDPipeline,
    UNet2DConditionModel,
    UNet3DConditionModel,
    UNetSpatioTemporalConditionModel,
    UniPCMultistepScheduler,
    VideoToVideoSDPipeline,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
    WanVideoToVideoPipeline,
)
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from tests import tiny_chat_pipelines
from tests.tiny_pipeline import _tokenizer

_TEXT = 32
_WAN = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": _TEXT,
    "freq_dim": 32,
    "ffn_dim": 64,
    "num_layers": 1,
    "rope_max_seq_len": 16,
}
_UNET_2D = {
    "block_out_channels": (8, 8),
    "layers_per_block": 1,
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 8,
    "norm_num_groups": 2,
    "attention_head_dim": 4,
}


class Kind(NamedTuple):
    """A kind of pipeline.

    Attributes:
        make: the pipeline.
        settings: what all its calls get; small.
        row: one row of a table of inputs; `media` writes the files that it names.
    """

    make: Callable[[], Any]
    settings: dict[str, Any]
    row: dict[str, Any]


def make(name: str) -> Any:
    """A seeded pipeline of a kind, in float32."""
    torch.manual_seed(0)
    return KINDS[name].make()


def save(name: str, folder: Path) -> Path:
    """Writes the pipeline of a kind with its `generation.json` into `folder`/model, and returns that."""
    make(name).save_pretrained(str(folder / "model"))
    (folder / "model" / "generation.json").write_text(json.dumps(KINDS[name].settings), encoding="utf-8")
    return folder / "model"


def table(name: str, folder: Path, rows: int = 2) -> Path:
    """Writes `folder`/inputs.jsonl with `rows` equal rows of a kind, and the files that they name."""
    media(folder)
    path = folder / "inputs.jsonl"
    path.write_text("\n".join([json.dumps(KINDS[name].row)] * rows), encoding="utf-8")
    return path


def media(folder: Path) -> None:
    """Writes a picture, a video of five frames, one of frames in a folder, and a mask of them."""
    from quant.files.video_files import write_bytes

    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (5, 24, 40, 3), dtype=np.uint8)
    Image.fromarray(frames[0]).save(folder / "picture.png")
    write_bytes(folder / "clip.mp4", frames, fps=8)
    (folder / "masks").mkdir(exist_ok=True)
    for i in range(5):
        Image.fromarray(np.full((24, 40), 255 * (i > 1), dtype=np.uint8)).save(folder / "masks" / f"{i}.png")


def _wan_vae() -> AutoencoderKLWan:
    return AutoencoderKLWan(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
        scale_factor_spatial=4,
        scale_factor_temporal=4,
    ).eval()


def _t5() -> T5EncoderModel:
    return T5EncoderModel(T5Config(vocab_size=16, d_model=_TEXT, d_kv=8, d_ff=32, num_layers=1, num_heads=4)).eval()


def _clip_text() -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=16, hidden_size=8, intermediate_size=16, num_attention_heads=2, num_hidden_layers=1, eos_token_id=1
    )
    return CLIPTextModel(config).eval()


def _clip_image() -> CLIPVisionModelWithProjection:
    """Of pictures of 224 pixels, to which Stable Video Diffusion scales every one."""
    config = CLIPVisionConfig(
        hidden_size=16, projection_dim=16, intermediate_size=16, num_attention_heads=2, num_hidden_layers=2,
        image_size=224, patch_size=112,
    )  # fmt: skip
    return CLIPVisionModelWithProjection(config).eval()


def _vae_2d() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=2,
    ).eval()


def _text() -> dict[str, Any]:
    tokenizer = _tokenizer()
    tokenizer.model_max_length = 8
    return {"tokenizer": tokenizer}


def _wan_parts(**changes: Any) -> dict[str, Any]:
    sizes = {"vocab_size": 16, "d_model": _TEXT, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 4}
    return {
        "tokenizer": _tokenizer(),
        "text_encoder": UMT5EncoderModel(UMT5Config(**sizes)).eval(),
        "vae": _wan_vae(),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
        "transformer": WanTransformer3DModel(**{**_WAN, **changes}).eval(),
    }


def _wan() -> WanPipeline:
    return WanPipeline(**_wan_parts())


def _wan_image() -> WanImageToVideoPipeline:
    parts = _wan_parts(in_channels=4 + 4 + 4, image_dim=16, added_kv_proj_dim=32, pos_embed_seq_len=2 * 5)
    processor = CLIPImageProcessor()
    return WanImageToVideoPipeline(**parts, image_encoder=_clip_image(), image_processor=processor)


def _wan_expanded() -> WanImageToVideoPipeline:
    """As Wan 2.2 of 5B: a timestep for each token, and the picture among the latents."""
    return WanImageToVideoPipeline(**_wan_parts(), expand_timesteps=True)


def _wan_video() -> WanVideoToVideoPipeline:
    return WanVideoToVideoPipeline(**_wan_parts() | {"scheduler": UniPCMultistepScheduler(use_flow_sigmas=True)})


def _wan_vace() -> WanVACEPipeline:
    denoiser = WanVACETransformer3DModel(**_WAN, vace_layers=[0], vace_in_channels=4 + 4 + 16)
    return WanVACEPipeline(**_wan_parts() | {"transformer": denoiser.eval()})


def _skyreels() -> SkyReelsV2DiffusionForcingVideoToVideoPipeline:
    denoiser = SkyReelsV2Transformer3DModel(**_WAN, inject_sample_info=False).eval()
    scheduler = UniPCMultistepScheduler(use_flow_sigmas=True, flow_shift=8.0)
    return SkyReelsV2DiffusionForcingVideoToVideoPipeline(
        **_wan_parts() | {"transformer": denoiser, "scheduler": scheduler}
    )


def _stable_video() -> StableVideoDiffusionPipeline:
    unet = UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=8,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        cross_attention_dim=16,
        num_attention_heads=2,
        projection_class_embeddings_input_dim=24,
        addition_time_embed_dim=8,
    )
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=4
    )
    scheduler = EulerDiscreteScheduler(
        prediction_type="v_prediction", timestep_type="continuous", use_karras_sigmas=True, sigma_max=700.0,
        sigma_min=0.002, interpolation_type="linear",
    )  # fmt: skip
    return StableVideoDiffusionPipeline(
        vae=vae.eval(),
        image_encoder=_clip_image(),
        unet=unet.eval(),
        scheduler=scheduler,
        feature_extractor=CLIPImageProcessor(),
    )


def _animate(cls: type) -> Any:
    adapter = MotionAdapter(
        block_out_channels=(8, 8), motion_layers_per_block=1, motion_norm_num_groups=2, motion_num_attention_heads=2
    )
    return cls(
        vae=_vae_2d(),
        text_encoder=_clip_text(),
        **_text(),
        unet=UNet2DConditionModel(**_UNET_2D).eval(),
        motion_adapter=adapter.eval(),
        scheduler=DDIMScheduler(clip_sample=False),
    )


def _text_to_video(cls: type) -> Any:
    unet = UNet3DConditionModel(
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        norm_num_groups=4,
        layers_per_block=1,
        cross_attention_dim=8,
        attention_head_dim=4,
        sample_size=8,
    )
    return cls(
        vae=_vae_2d(),
        text_encoder=_clip_text(),
        **_text(),
        unet=unet.eval(),
        scheduler=DDIMScheduler(clip_sample=False),
    )


def _latte() -> LattePipeline:
    denoiser = LatteTransformer3DModel(
        sample_size=8, num_layers=1, patch_size=2, attention_head_dim=8, num_attention_heads=2, caption_channels=_TEXT,
        video_length=5,
        in_channels=4, cross_attention_dim=16, out_channels=8, attention_bias=True, norm_type="ada_norm_single",
        num_embeds_ada_norm=1000, norm_elementwise_affine=False, activation_fn="gelu-approximate",
    )  # fmt: skip
    return LattePipeline(
        tokenizer=_tokenizer(),
        text_encoder=_t5(),
        vae=_vae_2d(),
        transformer=denoiser.eval(),
        scheduler=DDIMScheduler(clip_sample=False),
    )


def _ltx() -> LTXConditionPipeline:
    denoiser = LTXVideoTransformer3DModel(
        in_channels=8, out_channels=8, num_attention_heads=2, attention_head_dim=16, cross_attention_dim=32,
        num_layers=1, caption_channels=_TEXT,
    )  # fmt: skip
    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 5,
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4,
        upsample_factor=(1,) * 4,
        timestep_conditioning=False,
        patch_size=1,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )
    return LTXConditionPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae.eval(),
        text_encoder=_t5(),
        tokenizer=_tokenizer(),
        transformer=denoiser.eval(),
    )


def _modular() -> Any:
    """Wan of diffusers' blocks: saved, it has a modular_model_index.json alone."""
    from diffusers.modular_pipelines import WanBlocks

    pipe = WanBlocks().init_pipeline()
    pipe.update_components(**_wan_parts())
    return pipe


_SMALL = {"height": 16, "width": 16, "num_inference_steps": 2}
_CLIP = {**_SMALL, "num_frames": 5}
_WORDS = {**_CLIP, "max_sequence_length": 8}

KINDS: dict[str, Kind] = {
    "text": Kind(_wan, _WORDS, {"prompt": "a red fox", "negative_prompt": "snow"}),
    # Its attention takes all but 512 text tokens for those of the image.
    "image": Kind(
        _wan_image,
        {**_WORDS, "max_sequence_length": 512},
        {"prompt": "a red fox", "image": "picture.png", "last_image": "picture.png"},
    ),
    "video": Kind(
        _wan_video,
        {**_SMALL, "num_frames": 5, "max_sequence_length": 8},
        {"prompt": "a red fox", "video": "clip.mp4", "strength": 0.6},
    ),
    "control": Kind(
        _wan_vace, _WORDS, {"prompt": "a red fox", "video": "clip.mp4", "mask": "masks", "conditioning_scale": 0.5}
    ),
    "video-forcing": Kind(
        _skyreels,
        {**_WORDS, "num_frames": 12, "base_num_frames": 9, "overlap_history": 3},
        {"prompt": "a red fox", "video": "clip.mp4"},
    ),
    "image-alone": Kind(
        _stable_video,
        {**_CLIP, "num_frames": 2, "height": 32, "width": 32, "min_guidance_scale": 1.0, "fps": 7},
        {"image": "picture.png", "motion_bucket_id": 64},
    ),
    "motion": Kind(lambda: _animate(AnimateDiffPipeline), _CLIP, {"prompt": "a red fox"}),
    "motion-video": Kind(
        lambda: _animate(AnimateDiffVideoToVideoPipeline),
        _CLIP,
        {"prompt": "a red fox", "video": "clip.mp4", "strength": 0.6},
    ),
    "unet": Kind(lambda: _text_to_video(TextToVideoSDPipeline), _CLIP, {"prompt": "a red fox"}),
    "unet-video": Kind(
        lambda: _text_to_video(VideoToVideoSDPipeline),
        {"num_inference_steps": 2, "num_frames": 5},
        {"prompt": "a red fox", "video": "clip.mp4", "strength": 0.6},
    ),
    "video-length": Kind(_latte, {**_CLIP, "clean_caption": False}, {"prompt": "a red fox"}),
    "condition": Kind(
        _ltx,
        {**_WORDS, "num_frames": 9, "frame_rate": 12, "height": 32, "width": 32},
        {"prompt": "a red fox", "image": "picture.png", "frame_index": 0, "strength": 0.9},
    ),
    "conditions": Kind(
        _ltx,
        {**_WORDS, "num_frames": 9, "height": 32, "width": 32},
        {"prompt": "a red fox", "conditions": [{"image": "picture.png"}, {"video": "clip.mp4", "frame_index": 8}]},
    ),
    "image-expanded": Kind(_wan_expanded, _WORDS, {"prompt": "a red fox", "image": "picture.png"}),
    "no-steps": Kind(tiny_chat_pipelines.hunyuan_15, {**_SMALL, "num_frames": 5}, {"prompt": "a red fox"}),
    "channels-last": Kind(tiny_chat_pipelines.kandinsky_5, {**_CLIP, "height": 32, "width": 32}, {"prompt": "snow"}),
    "reads-text": Kind(
        tiny_chat_pipelines.cosmos_3, {**_CLIP, "height": 32, "width": 32}, {"prompt": "snow", "image": "picture.png"}
    ),
    "frames": Kind(
        tiny_chat_pipelines.sana_video,
        {**_WORDS, "height": 32, "width": 32, "use_resolution_binning": False},
        {"prompt": "a red fox", "complex_human_instruction": ["a"]},
    ),
    "modular": Kind(_modular, _CLIP, {"prompt": "a red fox"}),
}
