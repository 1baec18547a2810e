"""What a page's widgets should show, worked out from the state that the page carries."""

import json
from dataclasses import dataclass

STATE = "application/vnd.jupyter.widget-state+json"
VIEW = "application/vnd.jupyter.widget-view+json"
SLIDERS = {"SelectionSliderModel", "IntSliderModel"}
PICTURES = {"ImageModel", "HTMLModel", "HTMLMathModel"}

# Compares what is visible with the expected pictures: images byte by byte, HTML as the browser reads it.
COMPARE = """async expected => {
  const pictures = [...document.querySelectorAll('img.widget-image, .widget-html-content')];
  const shown = pictures.filter(picture => picture.checkVisibility());
  if (shown.length !== expected.length) return `${shown.length} pictures are visible, not ${expected.length}`;
  const bytes = async url => new Uint8Array(await (await fetch(url)).arrayBuffer()).join();
  for (const [i, {image, html}] of expected.entries()) {
    const parsed = document.createElement('div');
    parsed.innerHTML = html ?? '';
    const same = image === undefined ? shown[i].innerHTML === parsed.innerHTML
                                     : await bytes(shown[i].src) === await bytes(`data:;base64,${image}`);
    if (!same) return `picture ${i} is another one`;
  }
  return '';
}"""


@dataclass
class WidgetState:
    """The models of one page by id, the ids of those that stand in its text, and who is linked with whom."""

    models: dict
    roots: list
    links: list

    @classmethod
    def of(cls, page) -> "WidgetState":
        """Read the state that the page was built with: it holds until someone moves a control."""
        read = "kind => [...document.querySelectorAll(`script[type='${kind}']`)].map(s => s.textContent)"
        states = [json.loads(text)["state"] for text in page.evaluate(read, STATE)]
        models = {key: model for state in states for key, model in state.items()}
        roots = [json.loads(text)["model_id"] for text in page.evaluate(read, VIEW)]
        ends = [
            tuple(
                (ref.removeprefix("IPY_MODEL_"), name)
                for ref, name in (m["state"]["source"], m["state"]["target"])
            )
            for m in models.values()
            if m["model_name"] in ("LinkModel", "DirectionalLinkModel")
        ]
        return cls(models, roots, ends)

    def visible(self, kinds: set) -> list:
        """Ids of the visible widgets of these kinds, in the order in which the page shows them."""

        def walk(key):
            model = self.models[key]
            children = [ref.removeprefix("IPY_MODEL_") for ref in model["state"].get("children", [])]
            if model["model_name"] in ("StackModel", "TabModel", "AccordionModel"):
                chosen = model["state"].get("selected_index")
                children = [] if chosen is None else [children[chosen]]
            here = [key] if model["model_name"] in kinds else []
            return here + [found for child in children for found in walk(child)]

        return [found for root in self.roots for found in walk(root)]

    def sliders(self) -> list:
        return self.visible(SLIDERS)

    def lists(self) -> list:
        """Drop-down lists, which have positions as sliders do."""
        return self.visible({"DropdownModel"})

    def pictures(self) -> list[dict]:
        """What should be visible: `{"image": base64}` or `{"html": text}` for each picture."""
        return [
            {"image": self.models[key]["buffers"][0]["data"]}
            if self.models[key]["model_name"] == "ImageModel"
            else {"html": self.models[key]["state"]["value"]}
            for key in self.visible(PICTURES)
        ]

    def positions(self, slider: str) -> int:
        state = self.models[slider]["state"]
        if "_options_labels" in state:
            return len(state["_options_labels"])
        return (state.get("max", 100) - state.get("min", 0)) // state.get("step", 1) + 1

    def position(self, slider: str) -> int:
        state = self.models[slider]["state"]
        if "_options_labels" in state:
            return state.get("index", 0)
        return (state.get("value", 0) - state.get("min", 0)) // state.get("step", 1)

    def move(self, slider: str, position: int) -> None:
        """Put a slider or list to a position, and pass that on along the links."""
        state = self.models[slider]["state"]
        if "_options_labels" in state:
            changes = [(slider, "index", position)]
        else:
            changes = [(slider, "value", state.get("min", 0) + position * state.get("step", 1))]
        while changes:
            key, name, value = changes.pop()
            if self.models[key]["state"].get(name) == value:
                continue
            self.models[key]["state"][name] = value
            changes += [(*other, value) for one, other in self.links if one == (key, name)]
            changes += [(*one, value) for one, other in self.links if other == (key, name)]

    def expect_on(self, page) -> None:
        """Fail unless the page shows, within a second, exactly the pictures that it should."""
        for _ in range(20):
            wrong = page.evaluate(COMPARE, self.pictures())
            if not wrong:
                return
            page.wait_for_timeout(50)
        raise AssertionError(wrong)
