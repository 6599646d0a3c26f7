"""Plain transformers that extracted sub-networks are made of, on `plain_attention`.

They know nothing of supernets: what leaves is an ordinary network.

Shape legend: B batch, T tokens, C features, V vocabulary, I channels of an image, H height, W
width.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.supernet.plain_attention import Attention


class TransformerBlock(nn.Module):
    """Self-attention, then a feed-forward block on each token; a residual around each.

    Args:
        norm_first: whether each is normalized before it (ViT, GPT-2) or after its residual (BERT).
        enter: projects tokens to the block's own width, where that differs from the sequence's.
        leave: projects them back.
    """

    def __init__(
        self,
        *,
        attention: Attention,
        attention_norm: nn.LayerNorm,
        feed_forward: nn.Module,
        feed_forward_norm: nn.LayerNorm,
        dropout: nn.Dropout,
        norm_first: bool,
        enter: nn.Module | None = None,
        leave: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.enter = enter
        self.attention, self.attention_norm = attention, attention_norm
        self.feed_forward, self.feed_forward_norm = feed_forward, feed_forward_norm
        self.dropout = dropout
        self.leave = leave
        self.norm_first = norm_first

    def forward(self, x_BTC: Tensor, key_mask_BT: Tensor | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C); the mask is True where a token may be seen."""
        x = x_BTC if self.enter is None else self.enter(x_BTC)
        if self.norm_first:
            x = x + self._attend(self.attention_norm(x), key_mask_BT)
            x = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        else:
            x = self.attention_norm(x + self._attend(x, key_mask_BT))
            x = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return x if self.leave is None else self.leave(x)

    def _attend(self, x_BTC: Tensor, key_mask_BT: Tensor | None) -> Tensor:
        return self.dropout(self.attention(x_BTC, self.attention.project(x_BTC), key_mask_BT))


class TransformerStack(nn.ModuleList):
    """Blocks, one after the other, with one mask for all."""

    def __init__(self, blocks: Iterable[TransformerBlock]) -> None:
        super().__init__(blocks)

    def forward(self, x_BTC: Tensor, key_mask_BT: Tensor | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        for block in self:
            x_BTC = block(x_BTC, key_mask_BT)
        return x_BTC


class VisionTransformer(nn.Module):
    """A classifier of images (Dosovitskiy et al., ICLR 2021).

    Args:
        patches: the features of one patch -> C.
        class_token: (1, C), stands before the patches; its final state is what is classified.
        positions: one vector per token, the class token's first.
    """

    def __init__(
        self,
        *,
        patch_size: int,
        patches: nn.Linear,
        class_token: nn.Parameter,
        positions: nn.Embedding,
        stack: TransformerStack,
        norm: nn.LayerNorm,
        classifier: nn.Linear,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.unshuffle = nn.PixelUnshuffle(patch_size)
        self.patches = patches
        self.class_token = class_token
        self.positions = positions
        self.stack = stack
        self.norm = norm
        self.classifier = classifier

    def forward(self, x_BIHW: Tensor) -> Tensor:
        """Images (B, I, H, W) -> logits (B, num_classes)."""
        patches_BTC = self.patches(self.unshuffle(x_BIHW).flatten(2).transpose(1, 2))
        class_token_B1C = self.class_token.expand(patches_BTC.shape[0], -1, -1)
        x_BTC = torch.cat((class_token_B1C, patches_BTC), dim=1) + self.positions.weight
        return self.classifier(self.norm(self.stack(x_BTC)[:, 0]))


class TextClassifier(nn.Module):
    """A classifier of token sequences (Devlin et al., NAACL 2019).

    Args:
        pooler: C -> C, of the first token's final state.
        pooler_activation: follows it.
        padding_id: the token that fills up short sequences; no token sees it.
    """

    def __init__(
        self,
        *,
        tokens: nn.Embedding,
        positions: nn.Embedding,
        norm: nn.LayerNorm,
        dropout: nn.Dropout,
        stack: TransformerStack,
        pooler: nn.Linear,
        pooler_activation: nn.Module,
        classifier: nn.Linear,
        padding_id: int,
    ) -> None:
        super().__init__()
        self.tokens, self.positions = tokens, positions
        self.norm, self.dropout = norm, dropout
        self.stack = stack
        self.pooler = pooler
        self.pooler_activation = pooler_activation
        self.classifier = classifier
        self.padding_id = padding_id

    def forward(self, ids_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Token ids (B, T) -> logits (B, num_classes).

        Args:
            ids_BT: int64.
            mask_BT: True (or 1) for a token, False (or 0) for padding; None says that padding
                is where the padding id is.
        """
        visible_BT = ids_BT != self.padding_id if mask_BT is None else mask_BT.bool()
        embedded_BTC = self.tokens(ids_BT) + self.positions.weight[: ids_BT.shape[1]]
        x_BTC = self.stack(self.dropout(self.norm(embedded_BTC)), visible_BT)
        pooled_BC = self.pooler_activation(self.pooler(x_BTC[:, 0]))
        return self.classifier(self.dropout(pooled_BC))


class CausalTransformer(nn.Module):
    """A language model whose output layer is its token embedding (Radford et al., 2019)."""

    def __init__(
        self,
        *,
        tokens: nn.Embedding,
        positions: nn.Embedding,
        dropout: nn.Dropout,
        stack: TransformerStack,
        norm: nn.LayerNorm,
    ) -> None:
        super().__init__()
        self.tokens, self.positions = tokens, positions
        self.dropout = dropout
        self.stack = stack
        self.norm = norm

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Token ids (B, T) -> logits (B, T, V)."""
        embedded_BTC = self.tokens(ids_BT) + self.positions.weight[: ids_BT.shape[1]]
        x_BTC = self.stack(self.dropout(embedded_BTC))
        return F.linear(self.norm(x_BTC), self.tokens.weight)
