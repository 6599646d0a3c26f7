"""Figures: each function takes and returns matplotlib Axes, with units on every axis.

Colors are told apart in grey and by the color-blind (Okabe and Ito's palette), and beside the color
there is always a marker, a dash or a place; dominated points are grey. Several runs come in groups:
label -> the runs that differ in their seed alone. Nothing is shown or closed here.
"""

from nasbench.plots.architectures import (
    plot_choice_frequencies,
    plot_importances,
    plot_parallel_coordinates,
)
from nasbench.plots.fronts import plot_merged_front, plot_pareto_front, plot_pareto_fronts
from nasbench.plots.predictions import plot_parity
from nasbench.plots.progress import plot_hypervolume
from nasbench.plots.searched import Groups, Searched
from nasbench.plots.style import add_title, save
from nasbench.plots.supernets import plot_ladder, plot_routing

__all__ = [
    "Groups", "Searched",
    "plot_pareto_front", "plot_pareto_fronts", "plot_merged_front",
    "plot_hypervolume",
    "plot_choice_frequencies", "plot_parallel_coordinates", "plot_importances",
    "plot_parity",
    "plot_routing", "plot_ladder",
    "add_title", "save",
]  # fmt: skip
