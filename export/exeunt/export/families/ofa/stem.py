"""The image stem: the first three stages of a ResNet with bottleneck blocks (version 1.5)."""

from torch import Tensor, nn
from torch.nn import functional as F

from exeunt.export.families.ofa.config import OfaConfig

EXPANSION = 4
FIRST_CHANNELS = 64


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions beside a shortcut; the 3 x 3 one has the stride."""

    def __init__(
        self, channels: int, planes: int, width: int, stride: int, *, eps: float, first: bool
    ) -> None:
        super().__init__()
        out = planes * EXPANSION
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width, eps=eps)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width, eps=eps)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out, eps=eps)
        self.downsample: nn.Sequential | None = None
        if first and (stride != 1 or channels != out):
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out, eps=eps),
            )

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps f32[B, C', H', W'] of `maps` f32[B, C, H, W]."""
        shortcut = maps if self.downsample is None else self.downsample(maps)
        inner = F.relu(self.bn1(self.conv1(maps)))
        inner = F.relu(self.bn2(self.conv2(inner)))
        return F.relu(shortcut + self.bn3(self.conv3(inner)))


class Stem(nn.Module):
    """Embed an image as patches of 16 pixels a side."""

    def __init__(self, config: OfaConfig) -> None:
        super().__init__()
        eps = config.stem_norm_eps
        self.conv1 = nn.Conv2d(3, FIRST_CHANNELS, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(FIRST_CHANNELS, eps=eps)
        channels, stages = FIRST_CHANNELS, []
        for place, (planes, blocks) in enumerate(
            zip(config.stem_planes, config.stem_blocks, strict=True)
        ):
            width = max(1, planes * config.stem_width // 64)
            stage = []
            for block in range(blocks):
                stride = 2 if place and not block else 1
                stage.append(Bottleneck(channels, planes, width, stride, eps=eps, first=not block))
                channels = planes * EXPANSION
            stages.append(nn.Sequential(*stage))
        self.layer1, self.layer2, self.layer3 = stages
        self.channels = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, patch_images: Tensor) -> Tensor:
        """Return features f32[B, N, C], row by row, of `patch_images` f32[B, 3, H, W]."""
        maps = F.relu(self.bn1(self.conv1(patch_images)))
        maps = F.max_pool2d(maps, 3, stride=2, padding=1)
        maps = self.layer3(self.layer2(self.layer1(maps)))
        features: Tensor = maps.flatten(2).transpose(1, 2)
        return features
