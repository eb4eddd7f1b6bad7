"""The seven convolutions of wav2vec (paper §3.3), each with gelu and by default a layer norm of every frame.

They run over packed samples: the waveforms of a batch one after another, each from a multiple of the frames' distance
on. So padding costs next to nothing, and the taps of a convolution are views, not copies.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from skillnet_sound.config import SoundConfig
from skillnet_sound.frames import frame_count


class WaveConvolution(nn.Module):
    """Waveforms to frames, without padding: a frame for every 20 ms, from the 25 ms that begin there."""

    def __init__(self, config: SoundConfig) -> None:
        super().__init__()
        self.config = config
        widths = [1] + [config.channels] * len(config.kernels)
        biases = [config.conv_bias] * len(config.kernels)
        self.layers = nn.ModuleList(
            map(_StridedConvolution, widths, widths[1:], config.kernels, config.strides, _norms(config), biases)
        )

    def forward(
        self, samples: Float[Tensor, "items longest"], lengths: Int[Tensor, " items"]
    ) -> tuple[Float[Tensor, "frames channels"], Int[Tensor, " items"]]:
        """The frames of zero-padded waveforms of ``lengths`` samples, packed, and how many each item has.

        No frame reaches into padding or another item, so an item does not depend on the others of its batch.
        """
        counts = frame_count(lengths, self.config.kernels, self.config.strides)
        hop = math.prod(self.config.strides)
        frames, own = _pack(samples, lengths, counts, hop)
        items = _Items(lengths, hop, self.config.kernels[0], self.config.strides[0])
        for layer in self.layers:
            frames = layer(frames, items)
        return frames[own], counts


class _Items:
    """Where the items of a batch lie in the frames of the first convolution; only a norm over time needs them."""

    def __init__(self, lengths: Int[Tensor, " items"], hop: int, kernel: int, stride: int) -> None:
        self._rows = (lengths + hop - 1) // hop * (hop // stride)
        self._frames = frame_count(lengths, (kernel,), (stride,))

    def spans(self) -> list[tuple[int, int]]:
        """(rows, frames) of each item: the rows that it has, and how many of them are frames of its own samples."""
        return list(zip(self._rows.tolist(), self._frames.tolist(), strict=True))


class _FrameNorm(nn.LayerNorm):
    """Layer norm of every frame (wav2vec 2.0's ``feat_extract_norm="layer"``)."""

    def forward(  # type: ignore[override]  # all norms here receive the items' positions
        self, frames: Float[Tensor, "frames channels"], items: _Items
    ) -> Float[Tensor, "frames channels"]:
        return super().forward(frames)


class _TimeNorm(nn.Module):
    """Every channel normalised over an item's own frames (``"group"``: a group norm of as many groups as channels)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, frames: Float[Tensor, "frames channels"], items: _Items) -> Float[Tensor, "frames channels"]:
        spans = items.spans()
        pieces = frames.split([rows for rows, _ in spans])
        return torch.cat([self._normed(piece, own) for piece, (_, own) in zip(pieces, spans, strict=True)])

    def _normed(self, piece: Tensor, own: int) -> Tensor:
        variance, mean = torch.var_mean(piece[:own], dim=0, correction=0)
        return (piece - mean) * (variance + 1e-5).rsqrt() * self.weight + self.bias


class _NoNorm(nn.Module):
    """What stands behind the later convolutions of a ``"group"`` model."""

    def forward(self, frames: Float[Tensor, "frames channels"], items: _Items) -> Float[Tensor, "frames channels"]:
        return frames


def _norms(config: SoundConfig) -> list[nn.Module]:
    """The norm behind each convolution, as ``config.conv_norm`` has it."""
    if config.conv_norm == "layer":
        return [_FrameNorm(config.channels) for _ in config.kernels]
    return [_TimeNorm(config.channels), *(_NoNorm() for _ in config.kernels[1:])]


class _StridedConvolution(nn.Module):
    """One convolution without padding, its norm and gelu. ``weight`` and ``bias`` are laid out as nn.Conv1d's.

    ``F.conv1d`` wants time last and the norm wants channels last; with channels last throughout, a stride's worth of
    taps is one matrix product over a view of the frames.
    """

    decayed = ("weight",)

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, norm: nn.Module, bias: bool) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.norm = norm
        nn.init.kaiming_normal_(self.weight)

    def forward(self, frames: Float[Tensor, "time inputs"], items: _Items) -> Float[Tensor, "frames outputs"]:
        """Of ``time`` / stride frames: the last ones see the first ``frames`` again, as if these followed."""
        return F.gelu(self.norm(self._convolved(frames), items))

    def _convolved(self, frames: Tensor) -> Tensor:
        rows = frames.reshape(-1, self.stride * frames.shape[1])
        first, *later = self.weight.transpose(1, 2).flatten(1).split(rows.shape[1], dim=1)
        total = F.linear(rows[:, : first.shape[1]], first, self.bias)
        for ahead, taps in enumerate(later, start=1):
            total = torch.addmm(total, rows[:, : taps.shape[1]].roll(-ahead, dims=0), taps.t())
        return total


def _pack(
    samples: Float[Tensor, "items longest"], lengths: Int[Tensor, " items"], counts: Int[Tensor, " items"], hop: int
) -> tuple[Float[Tensor, "total 1"], Bool[Tensor, " hops"]]:
    """The waveforms one after another, each zero padded to a multiple of ``hop`` samples.

    The second tensor is True where one of the ``counts`` frames of an item begins; at the other hops begin frames that
    reach beyond their item.
    """
    hops = (lengths + hop - 1) // hop
    longest = int(hops.max())
    by_hop = F.pad(samples, (0, longest * hop - samples.shape[1])).reshape(len(samples), longest, hop)
    place = torch.arange(longest, device=samples.device)
    real = place < hops[:, None]
    return by_hop[real].reshape(-1, 1), (place < counts[:, None])[real]
