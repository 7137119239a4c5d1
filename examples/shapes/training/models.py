"""The parts of the pipeline, untrained, each with a start that trains.

diffusers and transformers build models to be loaded, not trained: their layers start with torch's defaults. The
starts below matter: with the defaults this autoencoder stays at 14 dB.
"""

from diffusers import AutoencoderKLWan, WanTransformer3DModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from quant.eval.shapes.vocabulary import ATTRIBUTES

#: Channels of the latents.
LATENT_CHANNELS = 8
#: Text tokens in training. The longest caption has 12, with the end token.
TEXT_TOKENS = 16


def make_vae() -> AutoencoderKLWan:
    """A causal 3D autoencoder: 4 x 4 pixels and 4 frames (after the first, which stands alone) to 8 numbers.

    `is_residual` is the Wan 2.2 variant, whose resampling blocks have parameter-free shortcuts.
    """
    vae = AutoencoderKLWan(
        base_dim=16,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        is_residual=True,
        latents_mean=[0.0] * LATENT_CHANNELS,
        latents_std=[1.0] * LATENT_CHANNELS,
        scale_factor_spatial=4,
        scale_factor_temporal=4,
    )
    for module in vae.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            _start_convolution(module)
    # Posterior standard deviations start at exp(-6 / 2) = 0.05: with 1 the decoder sees only noise.
    vae.quant_conv.weight.data[LATENT_CHANNELS:] = 0
    vae.quant_conv.bias.data[LATENT_CHANNELS:] = -6.0
    return vae


def _start_convolution(convolution: nn.Conv2d | nn.Conv3d) -> None:
    """Unit gain on the current frame, a third of it on past frames, no bias."""
    weight = convolution.weight.data
    weight.normal_(std=weight[0].numel() ** -0.5)
    if weight.ndim == 5 and weight.shape[2] > 1:
        weight.mul_(0.3)
        weight[:, :, -1].normal_(std=weight[0, :, -1].numel() ** -0.5)
    assert convolution.bias is not None
    convolution.bias.data.zero_()


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token per word of the vocabulary, `</s>` at the end, as T5 has it."""
    words = ["<pad>", "</s>", "<unk>", "a", "moves", "over", "background"]
    words += [value for values in ATTRIBUTES.values() for value in values]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=512,
    )


def make_text_encoder() -> UMT5EncoderModel:
    """Two layers of the architecture that Wan uses (UMT5), trained together with the transformer."""
    return UMT5EncoderModel(
        UMT5Config(vocab_size=64, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, dropout_rate=0.0)
    )


def make_transformer() -> WanTransformer3DModel:
    """6.1 million parameters; a clip is 5 x 4 x 4 = 80 tokens."""
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=4,
        attention_head_dim=64,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=64,
        freq_dim=128,
        ffn_dim=768,
        num_layers=6,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=64,
    )
    _start_transformer(transformer)
    return transformer


def _start_transformer(transformer: nn.Module) -> None:
    """The start of the original Wan: Xavier, small embeddings, and an output of zero."""
    for name, parameter in transformer.named_parameters():
        if "scale_shift_table" in name or "norm" in name:
            continue
        if parameter.ndim < 2 or "proj_out" in name:
            nn.init.zeros_(parameter)
        elif "condition_embedder" in name:
            nn.init.normal_(parameter, std=0.02)
        else:
            nn.init.xavier_uniform_(parameter.flatten(1))
