"""How much of the same networks is elastic here, and in NVIDIA Model Optimizer's AutoNAS.

    PYTHONPATH=. python experiments/elasticize_peer.py

Needs the package nvidia-modelopt. The ResNets are those of the tests, at their published widths.
"""

import copy
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import torch
from plain_resnet import make_resnet
from torch import Tensor, nn

from nasbench.cost import count_macs, count_parameters
from nasbench.supernet import elasticize
from tests.supernet import networks

NETWORKS: Mapping[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "ResNet-18": (lambda: networks.resnet18(1000, width=64), (3, 64, 64)),
    "ResNet-50": (lambda: networks.resnet50(1000, width=64), (3, 64, 64)),
    "`experiments/plain_resnet.py`": (make_resnet, (1, 28, 28)),
}


def row(
    name: str, who: str, dimensions: Iterable[str], size: float, ratios: Iterable[float]
) -> str:
    """One line of the table."""
    kinds = Counter(dimension.rpartition(".")[2] for dimension in dimensions)
    counts = [
        kinds["width"] + kinds["out_channels"],
        kinds["kernel_size"],
        kinds["depth"],
        sum(kinds.values()),
    ]
    shown = " | ".join(map(str, counts))
    return (
        f"| {name} | {who} | {shown} | {size:.2g} | "
        + " | ".join(f"{r:.1f}" for r in ratios)
        + " |"
    )


def ours(name: str, network: nn.Module, image: Tensor) -> str:
    """What `elasticize` finds."""
    supernet = elasticize(network, image)
    largest, smallest = (supernet.count(a) for a in (supernet.largest, supernet.smallest))
    ratios = [largest[metric] / smallest[metric] for metric in ("num_parameters", "num_macs")]
    return row(name, "ours", (d.name for d in supernet.space), supernet.space.size, ratios)


def peers(name: str, network: nn.Module, image: Tensor) -> str:
    """What `mtn.convert` finds, without any setting."""
    import modelopt.torch.nas as mtn
    from modelopt.torch.opt.utils import named_hparams

    elastic = mtn.convert(copy.deepcopy(network), mode=[("autonas", {})])
    found = dict(named_hparams(elastic, configurable=True))
    size = math.prod(len(dimension.choices) for dimension in found.values())
    mtn.select(elastic, {key: min(dimension.choices) for key, dimension in found.items()})
    smallest = mtn.export(copy.deepcopy(elastic))
    ratios = [
        count_parameters(network) / count_parameters(smallest),
        count_macs(network, (image[:1],)) / count_macs(smallest, (image[:1],)),
    ]
    return row(name, "Model Optimizer", found, size, ratios)


def main() -> None:
    """Print the table's rows."""
    warnings.filterwarnings("ignore")
    for name, (make, shape) in NETWORKS.items():
        torch.manual_seed(0)
        network, image = make().eval(), torch.randn(2, *shape)
        print(ours(name, network, image))
        print(peers(name, network, image))


if __name__ == "__main__":
    main()
