"""Controls that turn the pages of a widget in the browser alone.

Every page is made beforehand. The controls are linked with the pages by `ipywidgets.jslink`, so they work where there
is no Python.
"""

import re
from collections.abc import Callable, Sequence

import ipywidgets as w

from qlayer_core.show import names, slides


def explorer(controls: Sequence[w.Widget], page: Callable[..., str]) -> w.VBox:
    """Return the controls above a page for each combination of their positions; one without a choice isn't shown."""
    look = w.HTML(slides.STYLE, layout=w.Layout(height="0", margin="0"))
    # Shared by all pages: each would bring its own into the published file.
    layout, style = w.Layout(width="100%", margin="0"), look.style

    def stack(left: Sequence[w.Widget], at: tuple[int, ...]) -> w.Widget:
        if not left:
            return w.HTML(f'<div class="ql">{_themed(page(*at))}</div>', layout=layout, style=style)
        control, *rest = left
        switch = w.Stack(
            [stack(rest, (*at, i)) for i in range(len(control.options))],
            selected_index=control.index,
            layout=layout,
        )
        w.jslink((control, "index"), (switch, "selected_index"))
        return switch

    return w.VBox([look, *(control for control in controls if len(control.options) > 1), stack(controls, ())])


def _themed(page: str) -> str:
    """Return HTML with the models' colours as variables of the page, see `names.VARIABLES`."""
    for colour, variable in names.VARIABLES.items():
        page = re.sub(f"(?<!, ){colour}", variable, page)  # figures have them already
    return page


def choice(description: str, options: Sequence[str]) -> w.Dropdown:
    """Return a list to choose one of the options from, at the first of them."""
    return w.Dropdown(
        options=options, index=0, description=description, layout=w.Layout(width="100%", max_width="24rem")
    )


def slider(description: str, options: Sequence[str], start: int = 0) -> w.SelectionSlider:
    """Return a slider over the options, at the one numbered ``start``."""
    layout = w.Layout(width="100%", max_width="32rem")
    return w.SelectionSlider(options=options, index=start, description=description, layout=layout)
