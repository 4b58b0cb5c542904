"""What several widgets do with ipywidgets' controls."""

from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets


def row(*widgets: Any) -> ipywidgets.Box:
    """Side by side, and in further lines where the page is narrow."""
    return ipywidgets.Box(widgets, layout=ipywidgets.Layout(flex_flow="row wrap"))


def slider(text: str, value: float, low: float, high: float, step: float) -> ipywidgets.FloatSlider:
    """A named slider over numbers, which shows as many digits as its step has."""
    digits = {"readout_format": ".3f"} if round(step, 2) != step else {}
    return ipywidgets.FloatSlider(value, min=low, max=high, step=step, description=text, **digits)


def menu(text: str, options: Sequence[str], value: str | None = None) -> ipywidgets.Dropdown:
    """A named menu; the first option is chosen unless `value` says which."""
    return ipywidgets.Dropdown(options=options, value=value or options[0], description=text)


def offer(menu: ipywidgets.Dropdown, options: Mapping[str, Any]) -> None:
    """Offer these options; what was chosen stays so if it is among them, else it is the first."""
    chosen = menu.value
    if tuple(menu.options) == tuple(options.items()):
        return
    menu.options = list(options.items())
    values = [*options.values()]
    menu.value = chosen if chosen in values else next(iter(values), None)
