"""Attention of very many queries to few keys, on a processor.

Symbols: B batch, M heads, Q queries, K keys, E channels of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

MANY_QUERIES = 16384
AT_ONCE = 2**19
"""Weights that are computed at once: as float32 they fit into a core's own cache."""


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Return scaled dot-product attention, (B, M, Q, E).

    Torch's own multiplies weights by values of a few channels slowly. Where there are
    very many queries, and nothing to learn, they are taken part by part, and the
    product is turned round; float32 throughout.

    Parameters
    ----------
    query : (B, M, Q, E)
    key, value : (B, M, K, E)
    mask : (B, 1, 1, K) bool, optional
        False at padding.
    """
    learns = torch.is_grad_enabled() and query.requires_grad
    many = mask is None and query.shape[-2] >= MANY_QUERIES
    light = query.dtype in (torch.float32, torch.bfloat16)
    if not many or not light or learns or query.device.type != "cpu":
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask
        )
    with torch.autocast("cpu", enabled=False):
        return _part_by_part(query, key.float(), value.float()).to(query.dtype)


def _part_by_part(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend from so many queries at once that their weights stay in the cache."""
    keys = (key * key.shape[-1] ** -0.5).mT.contiguous()  # (B, M, E, K)
    values = value.mT.contiguous()  # (B, M, E, K)
    step = max(1, AT_ONCE // (key.shape[0] * key.shape[1] * key.shape[2]))
    attended = torch.empty(
        *(query.shape[0], query.shape[2], query.shape[1], query.shape[3])
    )  # (B, Q, M, E), as its user will want it
    for start in range(0, query.shape[2], step):
        part = slice(start, start + step)
        weight = (query[:, :, part].float() @ keys).softmax(dim=-1)
        attended[:, part] = (values @ weight.mT).permute(0, 3, 1, 2)
    return attended.transpose(1, 2)
