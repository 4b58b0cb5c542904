"""What can be turned: ipywidgets explorers. Each is a drawing function with controls."""

from kfcpo_lib.widgets.explorer import Explorer

__all__ = ["Explorer"]
