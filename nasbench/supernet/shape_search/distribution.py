"""The distribution over shapes: independent logits for the choices of every dimension.

Shape legend: C choices of a dimension, K of them that were drawn.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nasbench.space import Architecture, Choice, SearchSpace

_NUM_DRAWN = 2
_INITIAL_STD = 0.01
_LEAST_PROBABILITY = 1e-7  # so that two choices can always be drawn


@dataclass(frozen=True, slots=True)
class Selection:
    """Choices of one dimension that are computed together.

    Args:
        indices: of the choices, ascending.
        weights_K: how much of each; they sum to 1.
    """

    indices: tuple[int, ...]
    weights_K: Tensor

    @classmethod
    def of(cls, index: int) -> "Selection":
        """One choice alone."""
        return cls((index,), torch.ones(1))


def gumbel_log_probabilities(
    logits_C: Tensor, temperature: float, generator: torch.Generator
) -> Tensor:
    """Log of a sample of the Gumbel-softmax distribution, (C,).

    Jang et al., Categorical Reparameterization with Gumbel-Softmax (ICLR 2017). All is computed
    from logarithms, and what the noise is the logarithm of is kept from zero, so the sample is
    finite at any temperature that does not overflow the division.
    """
    uniform_C = torch.rand(logits_C.shape, generator=generator, dtype=torch.float64)
    smallest = torch.finfo(torch.float64).tiny
    exponential_C = -uniform_C.clamp(smallest, 1 - 1e-12).log()
    noise_C = -exponential_C.log()
    noisy_C = logits_C.double().log_softmax(dim=0) + noise_C.to(logits_C.device)
    return (noisy_C / temperature).log_softmax(dim=0)


class ShapeDistribution(nn.Module):
    """Independent distributions over the choices of some dimensions of a space.

    The others stay at their largest choice. Choices are counted from the smallest to the largest.

    Args:
        space: the architectures.
        mixed: dimensions of which two choices are drawn.
        depths: dimensions all of whose choices are mixed.
        generator: of the initial logits, normal with standard deviation 0.01.
    """

    def __init__(
        self,
        space: SearchSpace,
        mixed: Sequence[str],
        depths: Sequence[str],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.space = space
        self.mixed, self.depths = tuple(mixed), tuple(depths)
        self.choices = {d.name: d.rising for d in space if d.name in {*mixed, *depths}}
        self.logits = nn.ParameterList(
            _INITIAL_STD * torch.randn(len(choices), generator=generator)
            for choices in self.choices.values()
        )

    def logits_of(self) -> dict[str, Tensor]:
        """Dimension -> logits (C,)."""
        return dict(zip(self.choices, self.logits, strict=True))

    def probabilities(self) -> dict[str, Tensor]:
        """Dimension -> probabilities (C,), without noise."""
        return {name: logits_C.softmax(dim=0) for name, logits_C in self.logits_of().items()}

    def draw(self, temperature: float, generator: torch.Generator) -> dict[str, Selection]:
        """What one step computes; gradients reach the logits through the weights.

        Of a dimension of widths or kernel sizes, two choices are drawn without replacement from
        the sample of the Gumbel-softmax distribution, and weighted by their share of it.
        """
        return {
            name: self._draw(name, logits_C, temperature, generator)
            for name, logits_C in self.logits_of().items()
        }

    def _draw(
        self, name: str, logits_C: Tensor, temperature: float, generator: torch.Generator
    ) -> Selection:
        log_sample_C = gumbel_log_probabilities(logits_C, temperature, generator)
        if name in self.depths:
            return Selection(tuple(range(len(logits_C))), log_sample_C.exp().to(logits_C.dtype))
        sample_C = log_sample_C.detach().cpu().exp() + _LEAST_PROBABILITY
        drawn_K = torch.multinomial(sample_C, _NUM_DRAWN, generator=generator).sort().values
        weights_K = log_sample_C[drawn_K.to(logits_C.device)].softmax(dim=0)
        return Selection(tuple(drawn_K.tolist()), weights_K.to(logits_C.dtype))

    def argmax(self) -> Architecture:
        """The most likely shape."""
        return self._shape({n: int(logits_C.argmax()) for n, logits_C in self.logits_of().items()})

    @torch.no_grad()
    def grown(self, shape: Architecture, fits: Callable[[Architecture], bool]) -> Architecture:
        """A larger shape that fits, which no single dimension can be raised in by a choice.

        One dimension after the other is raised, that first whose logit gains most or loses least.
        """
        active_D = self.space.active(self.space.to_genome(shape)[None])[0]
        active = {d.name for d, is_active in zip(self.space, active_D, strict=True) if is_active}
        # Of what a deeper stage would run, the shape says nothing: it gets its likeliest sizes.
        likely = {name: int(logits_C.argmax()) for name, logits_C in self.logits_of().items()}
        indices = {
            name: choices.index(shape[name]) if name in active else likely[name]
            for name, choices in self.choices.items()
        }
        while True:
            raises = []
            for name, logits_C in self.logits_of().items():
                index = indices[name]
                if index + 1 < len(logits_C):
                    larger = self._shape({**indices, name: index + 1})
                    if larger != shape and fits(larger):
                        raises.append((float(logits_C[index + 1] - logits_C[index]), name, larger))
            if not raises:
                return shape
            _, name, shape = max(raises, key=lambda found: found[0])
            indices[name] += 1

    def _shape(self, indices: Mapping[str, int]) -> Architecture:
        chosen = {name: self.choices[name][index] for name, index in indices.items()}
        return self.space.canonical({**self.space.largest, **chosen})

    def one_hot(self, architecture: Mapping[str, Choice]) -> dict[str, Selection]:
        """A shape alone."""
        return {
            name: Selection.of(choices.index(architecture[name]))
            for name, choices in self.choices.items()
        }
