"""Two things that the studio and the replay do with ipywidgets' controls."""

from collections.abc import Mapping
from typing import Any

import ipywidgets


def row(*widgets: Any) -> ipywidgets.Box:
    """Side by side, and in further lines where the page is narrow."""
    return ipywidgets.Box(widgets, layout=ipywidgets.Layout(flex_flow="row wrap"))


def offer(menu: ipywidgets.Dropdown, options: Mapping[str, Any]) -> None:
    """Offer these options; what was chosen stays so if it is among them, else it is the first."""
    chosen = menu.value
    if tuple(menu.options) == tuple(options.items()):
        return
    menu.options = list(options.items())
    values = [*options.values()]
    menu.value = chosen if chosen in values else next(iter(values), None)
