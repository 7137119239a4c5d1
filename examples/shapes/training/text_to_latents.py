"""The text encoder and the transformer as one module, called as `WanPipeline` calls them."""

from torch import Tensor, nn

from training.attention import padding_bias, prepare
from training.models import TEXT_TOKENS, make_text_encoder, make_tokenizer, make_transformer


class TextToLatents(nn.Module):
    """The two networks that learn together."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = make_tokenizer()
        self.text_encoder = make_text_encoder()
        self.transformer = make_transformer()
        self.cross_attentions = prepare(self.transformer)

    def forward(self, mixed: Tensor, sigma: Tensor, captions: list[str], text_length: int) -> Tensor:
        """The direction [B, Z, f, h, w] at the mixtures `mixed` of strength `sigma` [B] in 0..1.

        The captions are encoded as `WanPipeline` does it, zeros after the end, and count as `text_length` tokens.
        """
        tokens = self.tokenizer(
            captions, padding="max_length", max_length=TEXT_TOKENS, truncation=True, return_tensors="pt"
        )
        mask = tokens.attention_mask
        text = self.text_encoder(tokens.input_ids, mask).last_hidden_state * mask[..., None]
        bias = padding_bias(mask.sum(1), TEXT_TOKENS, text_length).to(text.dtype)
        for attention in self.cross_attentions:
            attention.bias = bias
        return self.transformer(
            hidden_states=mixed, timestep=sigma * 1000, encoder_hidden_states=text, return_dict=False
        )[0]
