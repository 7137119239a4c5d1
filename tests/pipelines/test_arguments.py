from __future__ import annotations

from types import SimpleNamespace

import diffusers
import pytest

from quant.pipelines.arguments import FRAMES, IMAGE, RECORD, TENSOR, TEXT, VALUE, VIDEO, call_arguments, in_words


@pytest.mark.parametrize(
    ("pipeline", "kinds"),
    [
        (
            "WanPipeline",
            {"prompt": TEXT, "guidance_scale_2": VALUE, "prompt_embeds": TENSOR},
        ),
        ("WanImageToVideoPipeline", {"image": IMAGE, "last_image": IMAGE, "image_embeds": TENSOR}),
        ("WanVACEPipeline", {"video": VIDEO, "mask": VIDEO, "reference_images": IMAGE, "conditioning_scale": VALUE}),
        ("WanAnimatePipeline", {"pose_video": VIDEO, "face_video": VIDEO, "mode": TEXT}),
        ("LTXConditionPipeline", {"conditions": RECORD, "image": IMAGE, "prompt_attention_mask": TENSOR}),
        ("AnimateDiffControlNetPipeline", {"conditioning_frames": VIDEO, "ip_adapter_image": IMAGE}),
        ("EasyAnimateInpaintPipeline", {"video": VIDEO, "mask_video": VIDEO, "timesteps": VALUE}),
        ("SanaVideoPipeline", {"frames": VALUE, "sigmas": VALUE}),
        ("LattePipeline", {"video_length": VALUE, "negative_prompt": TEXT}),
        ("SanaWMPipeline", {"image": IMAGE, "action": TEXT, "c2w": TENSOR}),
        ("Kandinsky6SRPipeline", {"video": VIDEO}),
    ],
)
def test_what_an_argument_takes_is_read_from_the_calls_signature(pipeline: str, kinds: dict[str, str]) -> None:
    arguments = call_arguments(getattr(diffusers, pipeline))
    assert {name: arguments[name].kind for name in kinds} == kinds


def test_every_required_argument_of_a_video_pipeline_can_stand_in_a_table() -> None:
    """Of every pipeline of diffusers with a number of frames or a video."""
    seen = 0
    for name in sorted(vars(diffusers.pipelines)["_import_structure"]):
        for each in vars(diffusers.pipelines)["_import_structure"][name]:
            kind = getattr(diffusers, each, None) if each.endswith("Pipeline") else None
            if not isinstance(kind, type) or type(kind).__name__ == "DummyObject":
                continue
            arguments = call_arguments(kind)
            if not any(frames in arguments for frames in FRAMES) and "video" not in arguments:
                continue
            seen += 1
            needed = [argument for argument in arguments.values() if argument.required]
            assert all(argument.kind in (TEXT, IMAGE, VIDEO) for argument in needed), each
    assert seen > 60


@pytest.mark.parametrize(
    ("blocks", "needed"),
    [
        ("WanBlocks", set()),
        ("WanAnimate2Blocks", {"prompt", "image", "driving_video"}),
        ("MiniMaxH3Blocks", {"prompt", "num_inference_steps"}),  # diffusers says latents, too, which its blocks draw
    ],
)
def test_a_modular_pipeline_needs_what_its_blocks_do_not_make_themselves(blocks: str, needed: set[str]) -> None:
    arguments = call_arguments(SimpleNamespace(blocks=getattr(diffusers, blocks)()))
    assert {each.name for each in arguments.values() if each.required} == needed


def test_only_tensors_of_five_dimensions_are_asked_for_as_such() -> None:
    easy = call_arguments(diffusers.EasyAnimateControlPipeline)
    assert easy["control_video"].batched and easy["ref_image"].batched
    assert not call_arguments(diffusers.WanImageToVideoPipeline)["last_image"].batched


def test_a_message_has_what_a_table_may_have_with_the_required_first() -> None:
    words = in_words(call_arguments(diffusers.WanImageToVideoPipeline))
    assert words.startswith("image (required), prompt, negative_prompt, height")
    assert "last_image" in words and "generator" not in words and "prompt_embeds" not in words
