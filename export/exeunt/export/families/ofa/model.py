"""The whole model: two encoder lanes with tied layers, and a decoder that answers at every layer.

Reference: MuE, Eq. (3)-(6)
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from exeunt.export.families.ofa.attention import MASKED
from exeunt.export.families.ofa.config import OfaConfig
from exeunt.export.families.ofa.decoder import Decoder, DecoderLayer, causal
from exeunt.export.families.ofa.encoder import Encoder


class Context(NamedTuple):
    """What the decoder reads of a sample.

    hidden: f32[B, C, D], normed. mask: f32[B, C]. positions: f32[C, D]. C: image, then text.
    """

    hidden: Tensor
    mask: Tensor
    positions: Tensor


class OfaModel(nn.Module):
    """An OFA model with MuE's decomposed encoder; its keys are the official checkpoints'.

    Raises:
        ValueError: the config's sizes contradict each other.
    """

    def __init__(self, config: OfaConfig) -> None:
        super().__init__()
        config.check()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config, self.encoder.embed_tokens)

    def context(self, image: Tensor, text: Tensor, text_mask: Tensor) -> Context:
        """Join both lanes.

        Args:
            image: f32[B, N, D], the state with which the image left its lane.
            text: f32[B, T, D], the same of the text.
            text_mask: f32[B, T], 1 at valid tokens.
        """
        encoder = self.encoder
        positions = torch.cat([encoder.image_positions(), encoder.text_positions(text.shape[1])])
        mask = torch.cat([torch.ones_like(image[:, :, 0]), text_mask], dim=1)
        return Context(encoder.join(image, text), mask, positions)

    def encode(self, patch_images: Tensor, src_tokens: Tensor, attention_mask: Tensor) -> Context:
        """Return the context of full depth in both lanes; see `forward` for the arguments."""
        image = self.encoder.embed_image(patch_images)
        text = self.encoder.embed_text(src_tokens, attention_mask)
        states = [self.encoder.walk(lane)[-1] for lane in (image, text)]
        return self.context(states[0], states[1], text.mask)

    def decode(self, context: Context, prev_output_tokens: Tensor) -> list[Tensor]:
        """Return the decoder's states f32[B, S, D]: the embedding, then after every layer.

        Args:
            context: of the same samples.
            prev_output_tokens: i64[B, S], the tokens before each token, the start first.
        """
        decoder = self.decoder
        steps = prev_output_tokens.shape[1]
        states = [decoder.embed(prev_output_tokens)]
        hidden_later = causal(steps, context.hidden)
        padding = ((1.0 - context.mask) * MASKED)[:, None, None, :]
        cross_bias = decoder.cross_bias(context.positions, steps) + padding
        for place, module in enumerate(decoder.layers, 1):
            layer = cast(DecoderLayer, module)
            self_bias = decoder.self_bias(place, steps) + hidden_later
            hidden, _ = layer(states[-1], self_bias, layer.cross(context.hidden), cross_bias)
            states.append(hidden)
        return states

    def forward(
        self,
        patch_images: Tensor,
        src_tokens: Tensor,
        attention_mask: Tensor,
        prev_output_tokens: Tensor,
    ) -> list[Tensor]:
        """Return the logits f32[B, S, V] after each decoder layer, first layer first.

        Args:
            patch_images: f32[B, 3, H, W], normalised.
            src_tokens: i64[B, T].
            attention_mask: i64[B, T], 0 at padding.
            prev_output_tokens: i64[B, S], the tokens before each token, the start first.
        """
        context = self.encode(patch_images, src_tokens, attention_mask)
        states = self.decode(context, prev_output_tokens)
        return [self.decoder.logits(state) for state in states[1:]]
