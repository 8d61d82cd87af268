"""VGG16 without its classifier, under torchvision's parameter names.

Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015.
"""

from __future__ import annotations

from torch import Tensor, nn

from resight.errors import UsageError
from resight.features.networks.resnet import check_images

CONVOLUTIONS = (2, 2, 3, 3, 3)  # between two max-poolings


class Vgg16(nn.Module):
    """Images (N, 3, H, W) to feature maps (N, `channels`, H // `stride`, W // `stride`), never negative.

    It ends with the last ReLU (stride 16), as R-MAC and GeM use it; `pool5=True` adds the last max-pooling (stride 32).
    `width`: channels of the first layer, 64 in the published network. Weights are random until some are loaded.
    Raises `UsageError` unless width is at least 1.
    """

    def __init__(self, *, pool5: bool = False, width: int = 64) -> None:
        super().__init__()
        if width < 1:
            raise UsageError(f"width={width} must be at least 1")
        layers: list[nn.Module] = []
        inputs = 3
        for place, count in enumerate(CONVOLUTIONS):
            outputs = width * min(2**place, 8)
            for _ in range(count):
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
                inputs = outputs
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*(layers if pool5 else layers[:-1]))
        self.channels = inputs
        self.stride = 32 if pool5 else 16
        for layer in self.features:
            if isinstance(layer, nn.Conv2d) and not layer.weight.is_meta:
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Raises `ArrayError` when images are not (N, 3, H, W), or a side is shorter than the stride."""
        check_images(images, self.stride)
        maps: Tensor = self.features(images)
        return maps
