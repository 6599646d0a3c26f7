"""A plain ResNet for small images (He et al., CVPR 2016), which knows nothing of nasbench.

supernet:
  family: plain_resnet:make_resnet      # with this folder on the Python path
"""

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Identity()
        if stride > 1 or in_channels != channels:
            projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) -> (B, C, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    """A stem that halves the image, and stages of basic blocks."""

    def __init__(self, in_channels: int, num_classes: int, width: int, depths: tuple[int, ...]):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 5, stride=2, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        stages, channels = [], width
        for number, depth in enumerate(depths):
            blocks = []
            for index in range(depth):
                stride = 2 if number > 0 and index == 0 else 1
                blocks.append(BasicBlock(channels, width * 2**number, stride))
                channels = width * 2**number
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) -> (B, num_classes)."""
        x = self.stages(self.relu(self.bn1(self.conv1(x))))
        return self.fc(self.pool(x).flatten(1))


def make_resnet(
    num_classes: int = 10, in_channels: int = 1, width: int = 16, blocks_per_stage: int = 2
) -> nn.Module:
    """Three stages; 5.5 million multiply-accumulates for 28x28 pixels at the default sizes."""
    return ResNet(in_channels, num_classes, width, (blocks_per_stage,) * 3)
