"""Controls beside a picture: the one widget that every explorer of the course is made of.

The picture is an `Image` whose bytes are replaced, so it never flickers; nothing is printed and
no Output widget is used, so it works in JupyterLab, Notebook 7, VS Code and Voila alike.
"""

from collections.abc import Callable
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

from kfcpo_lib.plots.style import small_png


class Explorer(ipywidgets.VBox):  # type: ignore[misc]
    """A drawing function whose arguments are turned by sliders and menus.

    Args:
        draw: `draw(**values) -> Figure`, the same function that draws the static twin.
        alt: what the picture shows, in a sentence.
        controls: one ipywidgets control per argument of `draw`, with its label as description.

    The controls stand in two columns where the page is wide enough. A drawing that fails shows its
    reason in words under the controls and keeps the last picture.
    """

    def __init__(self, draw: Callable[..., Figure], alt: str, **controls: Any) -> None:
        self.draw = draw
        self.controls = controls
        self.picture = ipywidgets.Image(format="png")
        self.picture.add_class("kfcpo-picture")
        # As large as it was drawn, like its static twin, or as the page allows.
        self.picture.layout = ipywidgets.Layout(max_width="100%", align_self="flex-start")
        self.message = ipywidgets.Label()
        for control in controls.values():
            control.style.description_width = "14em"
            control.layout.width = "32em"
            control.observe(self._redraw, names="value")
        columns = ipywidgets.Layout(flex_flow="row wrap")
        rows = ipywidgets.Box([*controls.values()], layout=columns)
        caption = ipywidgets.HTML(alt)
        super().__init__([rows, self.message, self.picture, caption])
        self._redraw()

    @property
    def values(self) -> dict[str, Any]:
        """Where the controls stand."""
        return {name: control.value for name, control in self.controls.items()}

    def _redraw(self, _: Any = None) -> None:
        try:
            self.picture.value = small_png(self.draw(**self.values))
            self._say("")
        except (ValueError, FloatingPointError) as error:
            self._say(str(error))

    def _say(self, message: str) -> None:
        self.message.value = message
        self.message.layout.display = None if message else "none"
