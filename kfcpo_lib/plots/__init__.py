"""Every figure of the course, Matplotlib, one style; a module per topic.

Functions take numbers and return a `Figure`; `show` displays one in a notebook.
"""

from kfcpo_lib.plots.learning import learning_curves, moving_average, save_learning_curves
from kfcpo_lib.plots.show import show

__all__ = ["learning_curves", "moving_average", "save_learning_curves", "show"]
