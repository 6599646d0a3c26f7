"""Plain modules that extracted sub-networks are made of where torch.nn has none.

They know nothing of supernets: what leaves is an ordinary network.

Shape legend: B batch, C channels, H height, W width.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """Adds its input, or what `shortcut` makes of it, to what `body` makes of it."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """`x + body(x)`, or `shortcut(x) + body(x)`."""
        return (x if self.shortcut is None else self.shortcut(x)) + self.body(x)


def fit_channels(x_BCHW: Tensor, channels: int, stride: int) -> Tensor:
    """Every `stride`-th pixel, with the trailing channels dropped or zeros appended.

    The parameter-free shortcut of He et al. (CVPR 2016, option A).
    """
    if stride > 1:
        x_BCHW = x_BCHW[:, :, ::stride, ::stride]
    missing = channels - x_BCHW.shape[1]
    return x_BCHW if missing == 0 else F.pad(x_BCHW, (0, 0, 0, 0, 0, missing))


class TanhGELU(nn.GELU):
    """GELU approximated by a hyperbolic tangent (Hendrycks and Gimpel, 2016), as in GPT-2."""

    def __init__(self) -> None:
        super().__init__(approximate="tanh")


class FitChannels(nn.Module):
    """`fit_channels` as a layer."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, channels, H / stride, W / stride)."""
        return fit_channels(x_BCHW, self.channels, self.stride)


def resize_images(x_BCHW: Tensor, side: int) -> Tensor:
    """Square images of that side, by bilinear interpolation without aliasing."""
    if x_BCHW.shape[2:] == (side, side):
        return x_BCHW
    return F.interpolate(x_BCHW, (side, side), mode="bilinear", antialias=True)


class ResizeImages(nn.Module):
    """`resize_images` as a layer."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, side, side)."""
        return resize_images(x_BCHW, self.side)


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate that sees all channels' means (Hu et al., CVPR 2018).

    With MobileNetV3's hard sigmoid (Howard et al., ICCV 2019).
    """

    def __init__(self, squeeze: nn.Linear, excite: nn.Linear) -> None:
        super().__init__()
        self.squeeze = squeeze
        self.excite = excite

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The input with its channels rescaled, of the same shape."""
        gate_BC = self.excite(F.relu(self.squeeze(x_BCHW.mean((2, 3)))))
        return x_BCHW * F.hardsigmoid(gate_BC)[:, :, None, None]
