"""Made `recorded.safetensors`: inputs and weights of real layers, by `python -m tests.golden.record`.

From the transformer of examples/shapes while it makes a clip: an early block at an early step, a late block at a late
one. Names say block, step of how many, layer and tensor: `block0.step1of6.ffn_up.input`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import quant
from quant.eval.examples import example
from quant.eval.videos.generation import generate, initial_latents

FILE = Path(__file__).parent / "recorded.safetensors"
PROMPT, STEPS = "a large red circle moves slowly left over a white background", 6
#: (block, step), counted from 0 and from 1.
PLACES = ((0, 1), (5, 5))
TOKENS = 64
#: Submodule of a block, and how many rows of its weight are kept; the file is to stay small.
LAYERS = {"q": ("attn1.to_q", 64), "ffn_up": ("ffn.net.0.proj", 64), "ffn_down": ("ffn.net.2", 40)}


def record(pipeline: Any, prompt: str, settings: quant.GenerationSettings) -> dict[str, torch.Tensor]:
    """bf16 tensors by name: input [TOKENS, K], weight [N, K], bias [N].

    Args:
        pipeline: of Wan, in float32.
        prompt: of the clip.
        settings: of the clip, with `STEPS` steps.
    """
    found: dict[str, torch.Tensor] = {}
    done = 0

    def note(total: int, _: int) -> None:
        nonlocal done
        done = total

    def keep(prefix: str, step: int) -> Any:
        def hook(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            # The first forward of a step is the one with the prompt.
            if done == step - 1 and f"{prefix}.input" not in found:
                tokens = given[0][0]
                chosen = torch.arange(TOKENS) * len(tokens) // TOKENS
                found[f"{prefix}.input"] = tokens[chosen].to(torch.bfloat16).contiguous()

        return hook

    handles = []
    for block, step in PLACES:
        for layer, (name, rows) in LAYERS.items():
            linear = pipeline.transformer.blocks[block].get_submodule(name)
            prefix = f"block{block}.step{step}of{STEPS}.{layer}"
            handles.append(linear.register_forward_pre_hook(keep(prefix, step)))
            found[f"{prefix}.weight"] = linear.weight.detach()[:rows].to(torch.bfloat16).contiguous()
            found[f"{prefix}.bias"] = linear.bias.detach()[:rows].to(torch.bfloat16).contiguous()
    call = settings.for_pipeline(pipeline)
    generate(pipeline, [prompt], initial_latents(pipeline, call, [0]), call, on_step=note)
    for handle in handles:
        handle.remove()
    return found


def main() -> None:
    from diffusers import DiffusionPipeline

    model = example().model
    pipeline = DiffusionPipeline.from_pretrained(model, dtype=torch.float32)
    settings = quant.GenerationSettings.read(model).merged(num_inference_steps=STEPS)
    save_file(record(pipeline, PROMPT, settings), FILE)
    FILE.chmod(0o644)  # safetensors lets its owner alone read it


if __name__ == "__main__":
    main()
