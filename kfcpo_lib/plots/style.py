"""The one style of every figure in the course.

One colour per meaning, from the colour-blind safe palette of Okabe and Ito (2008), three of them
darkened until each stands out from white by 3 : 1 and still from the others (a test measures both).
Line styles, markers and labels say the same, so that colour is never the only carrier. Figures are
made without pyplot's global state, so they may be drawn from any thread.
"""

import io
import threading
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

REWARD = "#0072B2"
"""Blue: reward, return, the reward direction."""
COST = "#BF4A00"
"""Vermilion: cost, the cost direction, hazards."""
LIMIT = "#000000"
"""Black, solid: a limit, of cost or of KL."""
MARGIN = "#BC8C00"
"""Gold, dashed: the margin centre lambda * C."""
ROLLBACK = "#CC79A7"
"""Purple: a step that was undone."""
COMMITTED = "#009E73"
"""Green: a step that was kept; the blended direction; the goal."""
SECOND = "#3A94DC"
"""Sky blue: a second method beside the one in question (the plain gradient, a sample)."""
NEUTRAL = "#666666"
"""Grey: everything without a meaning of its own."""

FONT_SIZE = 14
DPI = 100
_drawing = threading.Lock()


def new_figure(
    rows: int = 1, columns: int = 1, width: float = 6.0, height: float = 4.2
) -> tuple[Figure, Any]:
    """A figure and its axes (one, or an array), each panel `width` x `height` inches."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns)


def fix_margins(
    figure: Figure,
    *,
    left: float = 0.07,
    right: float = 0.985,
    bottom: float = 0.16,
    top: float = 0.9,
    wspace: float = 0.2,
    hspace: float = 0.2,
) -> Figure:
    """Margins that are given, as shares of the figure, instead of found by the layout engine.

    The engine draws everything twice; an explorer's picture has no time for that.
    """
    figure.set_layout_engine(None)
    figure.subplots_adjust(left, bottom, right, top, wspace, hspace)
    return figure


def label(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    """Title, labels with units, light grid, fonts readable from the last row."""
    axes.set_title(title, fontsize=FONT_SIZE + 1, y=1.0)  # given, or Matplotlib measures all labels
    axes.set_xlabel(x_label, fontsize=FONT_SIZE)
    axes.set_ylabel(y_label, fontsize=FONT_SIZE)
    axes.tick_params(labelsize=FONT_SIZE - 2)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def legend(axes: Axes, **options: Any) -> None:
    """A legend in the course's size, without a frame that hides the data."""
    axes.legend(**({"fontsize": FONT_SIZE - 3, "framealpha": 0.8} | options))


def png(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as a PNG picture. Safe from any thread: one drawing at a time."""
    buffer = io.BytesIO()
    with _drawing:
        figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def small_png(figure: Figure, dpi: int = DPI, colours: int = 256) -> bytes:
    """The same in so many colours: a third of the bytes, and sooner done."""
    buffer = io.BytesIO()
    with _drawing:
        figure.set_dpi(dpi)
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    pixels.quantize(colours, method=Image.Quantize.MAXCOVERAGE).save(buffer, format="png")
    return buffer.getvalue()
