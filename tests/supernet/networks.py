"""Networks of one's own, in plain torch as users write them, of small widths."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def plain_cnn(
    num_classes: int = 10,
    in_channels: int = 1,
    image_size: int = 8,
    width: int = 8,
    dropout: float = 0.0,
) -> nn.Module:
    """Convolutions with biases and without, batch normalization, flatten into linear."""
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * (image_size // 4) ** 2, 32),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(32, num_classes),
    )


def vgg(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """VGG-11 with batch normalization (Simonyan and Zisserman, ICLR 2015)."""
    layers: list[nn.Module] = []
    channels = in_channels
    for width in (8, "M", 16, "M", 16, 16, "M", 32, 32, "M"):
        if width == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [
                nn.Conv2d(channels, width, 3, padding=1),
                nn.BatchNorm2d(width),
                nn.ReLU(True),
            ]
            channels = width
    return _VGG(nn.Sequential(*layers), num_classes)


class _VGG(nn.Module):
    def __init__(self, features: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
        self.classifier = nn.Sequential(
            nn.Linear(32 * 2 * 2, 48), nn.ReLU(True), nn.Dropout(), nn.Linear(48, num_classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(x))
        return self.classifier(torch.flatten(x, 1))


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _projection(channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += identity
        return self.relu(out)


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(channels, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += identity
        return self.relu(out)


def _projection(channels: int, width: int, stride: int) -> nn.Module | None:
    if stride == 1 and channels == width:
        return None
    return nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))


class ResNet(nn.Module):
    """He et al. (CVPR 2016)."""

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, ...],
        num_classes: int,
        in_channels: int,
        width: int,
        stem: tuple[int, int] = (7, 2),
    ) -> None:
        super().__init__()
        kernel_size, stride = stem
        self.conv1 = nn.Conv2d(
            in_channels, width, kernel_size, stride, kernel_size // 2, bias=False
        )
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if stride > 1 else nn.Identity()
        channels = width
        for number, depth in enumerate(depths):
            blocks = []
            for index in range(depth):
                first_stride = 2 if number and not index else 1
                blocks.append(block(channels, width * 2**number, first_stride))
                channels = width * 2**number * block.expansion
            setattr(self, f"layer{number + 1}", nn.Sequential(*blocks))
        self.num_stages = len(depths)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for number in range(self.num_stages):
            x = getattr(self, f"layer{number + 1}")(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


def resnet18(num_classes: int = 10, in_channels: int = 3, width: int = 8) -> nn.Module:
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, in_channels, width)


def resnet50(num_classes: int = 10, in_channels: int = 3, width: int = 8) -> nn.Module:
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, in_channels, width)


def small_resnet(
    num_classes: int = 10,
    in_channels: int = 1,
    image_size: int = 8,
    width: int = 8,
) -> nn.Module:
    """Two stages, for small images."""
    return ResNet(BasicBlock, (2, 2), num_classes, in_channels, width, stem=(3, 1))


class InvertedResidual(nn.Module):
    """Of MobileNetV2 (Sandler et al., CVPR 2018), and V3 with squeeze-and-excitation."""

    def __init__(
        self,
        channels: int,
        width: int,
        expansion: int,
        kernel_size: int,
        stride: int,
        activation: type[nn.Module] = nn.ReLU6,
        has_gate: bool = False,
    ) -> None:
        super().__init__()
        inner = channels * expansion
        self.use_res_connect = stride == 1 and channels == width
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [
                nn.Conv2d(channels, inner, 1, bias=False),
                nn.BatchNorm2d(inner),
                activation(),
            ]
        padding = kernel_size // 2
        layers += [
            nn.Conv2d(inner, inner, kernel_size, stride, padding, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            activation(),
        ]
        if has_gate:
            layers.append(SqueezeExcitation(inner))
        layers += [nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width)]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class SqueezeExcitation(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, channels // 4, 1)
        self.fc2 = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = F.relu(self.fc1(self.avgpool(x)), inplace=True)
        return F.hardsigmoid(self.fc2(scale)) * x


def mobilenet_v2(
    num_classes: int = 10,
    in_channels: int = 1,
    activation: type[nn.Module] = nn.ReLU6,
    dropout: float = 0.2,
) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        activation(),
        InvertedResidual(8, 8, 1, 3, 1, activation),
        InvertedResidual(8, 16, 4, 3, 2, activation),
        InvertedResidual(16, 16, 4, 5, 1, activation),
        InvertedResidual(16, 16, 4, 3, 1, activation),
        nn.Conv2d(16, 32, 1, bias=False),
        nn.BatchNorm2d(32),
        activation(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(32, num_classes),
    )


def smooth_mobilenet(
    num_classes: int = 10,
    in_channels: int = 1,
    image_size: int = 16,
) -> nn.Module:
    """MobileNetV2 without units that are off, and without dropout."""
    return mobilenet_v2(num_classes, in_channels, nn.SiLU, 0.0)


def mobilenet_v3(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.Hardswish(),
        InvertedResidual(8, 8, 1, 3, 1, nn.ReLU, True),
        InvertedResidual(8, 16, 4, 5, 2, nn.Hardswish, True),
        InvertedResidual(16, 16, 4, 7, 1, nn.Hardswish, True),
        InvertedResidual(16, 16, 4, 5, 1, nn.Hardswish, False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 32),
        nn.Hardswish(),
        nn.Linear(32, num_classes),
    )


class DenseLayer(nn.Module):
    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 2 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(2 * growth)
        self.conv2 = nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = self.conv1(F.relu(self.norm1(torch.cat(features, 1))))
        return F.dropout(self.conv2(F.relu(self.norm2(x))), 0.1, self.training)


class DenseNet(nn.Module):
    """Huang et al. (CVPR 2017)."""

    def __init__(self, num_classes: int = 10, in_channels: int = 3, growth: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.block1 = nn.ModuleList(DenseLayer(16 + i * growth, growth) for i in range(2))
        self.norm = nn.BatchNorm2d(16 + 2 * growth)
        self.transition = nn.Conv2d(16 + 2 * growth, 16, 1, bias=False)
        self.block2 = nn.ModuleList(DenseLayer(16 + i * growth, growth) for i in range(2))
        self.last = nn.BatchNorm2d(16 + 2 * growth)
        self.classifier = nn.Linear(16 + 2 * growth, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self._block(self.stem(x), self.block1)
        x = F.avg_pool2d(self.transition(F.relu(self.norm(x))), 2)
        x = F.relu(self.last(self._block(x, self.block2)))
        return self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))

    def _block(self, x: Tensor, layers: nn.ModuleList) -> Tensor:
        features = [x]
        for layer in layers:
            features.append(layer(features))
        return torch.cat(features, 1)


class UNet(nn.Module):
    """Ronneberger et al. (MICCAI 2015), with a transposed convolution and an interpolation."""

    def __init__(self, num_classes: int = 3, in_channels: int = 3) -> None:
        super().__init__()
        self.down1, self.down2 = _twice(in_channels, 8), _twice(8, 16)
        self.middle = _twice(16, 32)
        self.up2 = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.merge2, self.merge1 = _twice(32, 16), _twice(24, 8)
        self.head = nn.Conv2d(8, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(F.max_pool2d(first, 2))
        x = self.middle(F.max_pool2d(second, 2))
        x = self.merge2(torch.cat([self.up2(x), second], dim=1))
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return self.head(self.merge1(torch.cat([x, first], dim=1)))


def _twice(channels: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.GroupNorm(4, width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.PReLU(width),
    )


class Attention(nn.Module):
    """As vision transformers of timm have it: queries, keys and values from one linear layer."""

    def __init__(self, size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_size = num_heads, size // num_heads
        self.qkv, self.proj = nn.Linear(size, 3 * size), nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, size = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_size)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, size))


class TransformerBlock(nn.Module):
    def __init__(self, size: int, num_heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.attn = Attention(size, num_heads)
        self.mlp = nn.Sequential(nn.Linear(size, 2 * size), nn.GELU(), nn.Linear(2 * size, size))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Dosovitskiy et al. (ICLR 2021)."""

    def __init__(self, num_classes: int = 10, in_channels: int = 3, size: int = 32) -> None:
        super().__init__()
        self.patches = nn.Conv2d(in_channels, size, 4, stride=4)
        self.cls_token = nn.Parameter(torch.randn(1, 1, size))
        self.pos_embed = nn.Parameter(torch.randn(1, 17, size))
        self.blocks = nn.ModuleList(TransformerBlock(size, 4) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(size), nn.Linear(size, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class TorchTransformer(nn.Module):
    """A text classifier of torch's own encoder layers."""

    def __init__(self, vocab_size: int = 50, max_length: int = 12, num_classes: int = 2) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, 32, padding_idx=0)
        self.positions = nn.Parameter(torch.randn(max_length, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=False)
        self.encoder = nn.TransformerEncoder(layer, 3)
        self.head = nn.Linear(32, num_classes)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.encoder(self.tokens(ids) * math.sqrt(32) + self.positions)
        return self.head(x.mean(dim=1))


class UserMLP(nn.Module):
    """Residual layers written into one forward, with a gate that chunks."""

    def __init__(self, num_classes: int = 10, in_features: int = 24, width: int = 32) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(in_features, width), nn.BatchNorm1d(width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.gate = nn.Linear(width, 2 * width)
        self.scale = nn.Parameter(torch.rand(width))
        self.last = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x.flatten(1))))
        for norm, layer in zip(self.norms, self.hidden, strict=True):
            x = x + F.silu(layer(norm(x)))
        value, gate = self.gate(x).chunk(2, dim=-1)
        return self.last(value * torch.sigmoid(gate) * self.scale)


class GroupedBlock(nn.Module):
    """Of ResNeXt (Xie et al., CVPR 2017)."""

    def __init__(self, channels: int, width: int, groups: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, groups=groups)
        self.conv3 = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv3(F.relu(self.conv2(F.relu(self.bn1(self.conv1(x))))))


def resnext(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, 3, padding=1),
        GroupedBlock(16, 16, 4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, num_classes),
    )


class ShuffleUnit(nn.Module):
    """Of ShuffleNetV2 (Ma et al., ECCV 2018): half of the channels are convolved, then shuffled."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.first, self.branch = nn.Conv2d(16, 16, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        kept, convolved = self.first(x).chunk(2, dim=1)
        x = torch.cat([kept, self.branch(convolved)], dim=1)
        batch, channels, height, width = x.shape
        x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2)
        return self.fc(x.reshape(batch, channels, height, width).mean((2, 3)))


def no_network() -> Tensor:
    """What a function that is named by mistake might make."""
    return torch.ones(1)
