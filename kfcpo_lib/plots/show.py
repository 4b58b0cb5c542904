"""Putting a figure into a notebook: a PNG with a text alternative, the same for every viewer."""

from IPython.display import Image, display
from matplotlib.figure import Figure

from kfcpo_lib.plots.style import small_png


def show(figure: Figure, alt: str) -> None:
    """Display the figure; `alt` says in a sentence what it shows, for those who cannot see it."""
    display(Image(data=small_png(figure), format="png", alt=alt))
