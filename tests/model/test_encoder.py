"""Routed, packed attention against plain loops and torch's own modules."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from skillnet_cli.model.attention import AttentionPlan, attend, order_by_length
from skillnet_cli.model.build import NORM_EPS, build_encoder
from skillnet_cli.model.config import SkillNetConfig
from skillnet_cli.model.encoder import RoutedAttention
from skillnet_cli.model.sequences import Segment, join
from tests.reference import assert_same

LENGTHS = [[5, 5, 5], [1, 7, 3, 9, 2], [70, 3, 130, 66]]


def loop_over_heads(attention: RoutedAttention, tokens: Tensor, skills: list[str], lengths: list[int]) -> Tensor:
    """Equations 1 to 5, one token, head and sequence at a time."""
    width = tokens.shape[1] // attention.heads
    qkv = torch.stack([attention.skills[skill](token) for skill, token in zip(skills, tokens, strict=True)])
    out, begin = [], 0
    for length in lengths:
        q, k, v = qkv[begin : begin + length].chunk(3, dim=1)
        heads = []
        for head in range(attention.heads):
            part = slice(head * width, (head + 1) * width)
            scores = q[:, part] @ k[:, part].T / math.sqrt(width)
            heads.append(torch.softmax(scores, dim=-1) @ v[:, part])
        out.append(attention.out(torch.cat(heads, dim=1)))
        begin += length
    return torch.cat(out)


DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@DTYPES
@pytest.mark.parametrize("lengths", LENGTHS)
def test_attention_of_one_skill_equals_a_loop_over_heads(lengths: list[int], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    attention = RoutedAttention(32, 4, ["alpha", "beta"]).to(dtype)
    tokens = torch.randn(sum(lengths), 32, dtype=dtype)
    joined = join([Segment("beta", tokens, torch.tensor(lengths))])
    routed = attention(joined.tokens, AttentionPlan(joined.lengths), joined.routes)
    assert_same(routed, loop_over_heads(attention, tokens, ["beta"] * len(tokens), lengths))


@DTYPES
@pytest.mark.parametrize("scale", [1, 8])
def test_attention_of_several_segments_equals_a_loop_over_heads(scale: float, dtype: torch.dtype) -> None:
    """Three segments of three skills an item, of ragged lengths; each but the last loses its [CLS]."""
    torch.manual_seed(0)
    skills, lengths = ("alpha", "beta", "gamma"), ([3, 1, 4], [2, 5, 1], [1, 2, 6])
    attention = RoutedAttention(32, 4, skills).to(dtype)
    segments = [
        Segment(skill, scale * torch.randn(sum(each), 32, dtype=dtype), torch.tensor(each))
        for skill, each in zip(skills, lengths, strict=True)
    ]
    joined = join(segments)
    tokens, owners, totals = [], [], []
    for item in range(3):
        kept = [each.tokens.split(each.lengths.tolist())[item][int(each is not segments[-1]) :] for each in segments]
        tokens += kept
        owners += [each.skill for each, rows in zip(segments, kept, strict=True) for _ in rows]
        totals.append(sum(map(len, kept)))
    assert joined.lengths.tolist() == totals
    assert torch.equal(joined.tokens, torch.cat(tokens))
    assert torch.equal(joined.tokens[joined.cls_rows], segments[-1].tokens[[0, 1, 3]])
    routed = attention(joined.tokens, AttentionPlan(joined.lengths), joined.routes)
    assert_same(routed, loop_over_heads(attention, joined.tokens, owners, totals))


def test_rows_lead_from_each_segments_tokens_to_their_place() -> None:
    tokens = torch.arange(7.0)[:, None].expand(-1, 4)
    first, second = Segment("alpha", tokens, torch.tensor([4, 3])), Segment("beta", tokens + 10, torch.tensor([2, 5]))
    joined = join([first, second])
    for segment, rows in zip((first, second), joined.rows, strict=True):
        kept = rows >= 0
        torch.testing.assert_close(joined.tokens[rows[kept]], segment.tokens[kept])
    assert joined.rows[0].tolist().count(-1) == 2
    assert joined.rows[0][[0, 4]].tolist() == [-1, -1]


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_packed_encoder_equals_torchs_padded_one(norm: str, lengths: list[int]) -> None:
    """The same weights in nn.TransformerEncoderLayer, with padding and a mask."""
    torch.manual_seed(0)
    config = SkillNetConfig(
        layers=3, hidden=32, heads=4, ffn=64, norm=norm, activation="gelu", dropout=0.0, skills={"alpha": {}}, tasks={}
    )
    encoder = build_encoder(config).double()
    items = [torch.randn(length, 32, dtype=torch.float64) for length in lengths]
    joined = join([Segment("alpha", torch.cat(items), torch.tensor(lengths))])
    packed, _ = encoder(joined.tokens, joined.lengths, joined.routes)
    x = nn.utils.rnn.pad_sequence(items, batch_first=True)
    padding = torch.arange(x.shape[1]) >= torch.tensor(lengths)[:, None]
    for block in encoder.blocks:
        layer = nn.TransformerEncoderLayer(
            32, 4, 64, 0.0, "gelu", NORM_EPS[norm], batch_first=True, norm_first=norm == "pre"
        ).double()
        layer.self_attn.in_proj_weight.data = block.attention.skills["alpha"].weight.data
        layer.self_attn.in_proj_bias.data = block.attention.skills["alpha"].bias.data
        layer.self_attn.out_proj.load_state_dict(block.attention.out.state_dict())
        layer.linear1.load_state_dict(block.feed_forward.up.state_dict())
        layer.linear2.load_state_dict(block.feed_forward.down.state_dict())
        layer.norm1.load_state_dict(block.attention_norm.state_dict())
        layer.norm2.load_state_dict(block.ffn_norm.state_dict())
        x = layer.train()(x, src_key_padding_mask=padding)
    x = x if encoder.final_norm is None else encoder.final_norm(x)
    torch.testing.assert_close(packed, x[~padding], rtol=0, atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=12))
def test_a_sequence_does_not_depend_on_its_batch_mates(lengths: list[int]) -> None:
    generator = torch.Generator().manual_seed(sum(lengths))
    q, k, v = (torch.randn(sum(lengths), 2, 8, generator=generator) for _ in range(3))
    together = attend(q, k, v, AttentionPlan(torch.tensor(lengths)))
    begin = 0
    for length in lengths:
        part = slice(begin, begin + length)
        alone = attend(q[part], k[part], v[part], AttentionPlan(torch.tensor([length])))
        torch.testing.assert_close(together[part], alone, rtol=0, atol=1e-6)
        begin += length


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_order_by_length_moves_whole_sequences(lengths: list[int]) -> None:
    begins = [sum(lengths[:index]) for index in range(len(lengths))]
    ordered = sorted(zip(lengths, begins, strict=True))
    expected = [row for length, begin in ordered for row in range(begin, begin + length)]
    assert order_by_length(torch.tensor(lengths)).tolist() == expected


@pytest.mark.parametrize("length", [3, 40, 513])
def test_bf16_attention_is_close_to_float32(length: int) -> None:
    q, k, v = torch.randn(3, 4 * length, 2, 8, generator=torch.Generator().manual_seed(0)).unbind()
    plan = AttentionPlan(torch.full((4,), length))
    half = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), plan)
    torch.testing.assert_close(half.float(), attend(q, k, v, plan), rtol=0, atol=0.02)
