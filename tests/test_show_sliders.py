"""The explorers show, wherever their controls stand, what is recomputed here from the networks themselves."""

import base64
import io
import itertools
import json
import re
from html.parser import HTMLParser

import ipywidgets as w
import numpy as np
import pytest
import torch
from conftest import small_q_net
from ipywidgets.embed import dependency_state, embed_data
from PIL import Image
from widget_state import STATE, WidgetState

from qlayer_core import attacks, datasets
from qlayer_core.data import Split
from qlayer_core.intervals import wilson
from qlayer_core.show import names, sliders, slides

EPSILONS = (0.0, 0.1, 0.3)


class Page(HTMLParser):
    """What a reader gets to see: images with their text alternatives, and the text."""

    def __init__(self, html: str):
        super().__init__()
        self.html, self.images, self.text = html, {}, ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            found = dict(attributes)
            data = found["src"].removeprefix("data:image/png;base64,")
            self.images[found["alt"]] = Image.open(io.BytesIO(base64.b64decode(data)))

    def handle_data(self, data):
        self.text += data + " "

    def grey(self, number: int) -> np.ndarray:
        return np.asarray(list(self.images.values())[number].convert("L")).astype(int)


class Browser:
    """A widget as the published page carries it, its controls moved along the links that the browser follows."""

    def __init__(self, widget: w.Widget):
        data = embed_data([widget], state=dependency_state([widget]))
        self.state_text, self.view_text = (json.dumps(data[key]) for key in ("manager_state", "view_specs"))
        self.state = WidgetState.of(self)

    def evaluate(self, _, kind: str) -> list[str]:
        return (
            [self.state_text] if kind == STATE else [json.dumps(view) for view in json.loads(self.view_text)]
        )

    def at(self, **positions: int) -> Page:
        """Move the controls of these names, and read what is shown."""
        for name, position in positions.items():
            (control,) = [
                key
                for key, m in self.state.models.items()
                if m["state"].get("description") == name.replace("_", " ")
            ]
            self.state.move(control, position)
        return Page(self.state.pictures()[-1]["html"])


def bytes_of(pixels: torch.Tensor) -> np.ndarray:
    return (255 * pixels).round().int().squeeze().numpy()


def numbers(page: Page) -> np.ndarray:
    """The cells of the table of probabilities: (classes, columns)."""
    cells = [
        [int(n) for n in re.findall(r"<b>(\d+)</b>", row)]
        for row in page.html.split("<tbody>")[1].split("<tr")
    ]
    return np.array([row for row in cells if row])


@pytest.fixture(scope="module")
def q_net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return small_q_net().eval()


@pytest.fixture(scope="module")
def few(digits) -> Split:
    return Split(digits.images[:2], digits.labels[:2])


@pytest.fixture(scope="module")
def networks(trained_cnn, q_net) -> dict:
    return {"cnn": trained_cnn, "q-base": q_net}


# ---- the epsilon explorer ----


def fgsm_by_hand(model, image, eps):
    x = image.clone().requires_grad_()
    logits = model(x)
    torch.nn.functional.cross_entropy(logits, logits.argmax(1)).backward()
    return (image + eps * x.grad.sign()).clamp(0, 1)


def test_epsilon_explorer_shows_the_attack_of_each_position(few, trained_cnn):
    browser = Browser(sliders.epsilon_explorer(*few, {"cnn": trained_cnn}, epsilons=EPSILONS))
    for image, step in itertools.product(range(2), range(3)):
        page = browser.at(image=image, epsilon=step)
        clean = few.images[image : image + 1]
        made = fgsm_by_hand(trained_cnn, clean, EPSILONS[step])
        assert abs(page.grey(0) - bytes_of(clean)).max() == 0
        assert abs(page.grey(2) - bytes_of(made)).max() <= 1
        # grey is no change; the largest epsilon goes from black to white
        assert abs(page.grey(1) - 255 * (0.5 + (page.grey(2) - page.grey(0)) / 255 / 0.6)).max() <= 2


def test_epsilon_explorer_attacks_each_network_on_its_own_in_the_white_box(few, networks, q_net):
    browser = Browser(sliders.epsilon_explorer(*few, networks, epsilons=EPSILONS))
    page = browser.at(image=1, epsilon=2)
    for number, model in ((1, networks["cnn"]), (2, lambda x: q_net(x, path="e"))):
        made = fgsm_by_hand(model, few.images[1:], EPSILONS[2])
        assert abs(page.grey(number) - bytes_of(made)).max() <= 1
        answers = numbers(page)[:, number - 1 if number == 1 else 2]
        assert abs(answers - 100 * model(made).softmax(1)[0].detach().numpy()).max() <= 0.51


def test_epsilon_explorer_shows_all_networks_the_same_image_in_the_black_box(
    few, networks, q_net, trained_cnn
):
    browser = Browser(
        sliders.epsilon_explorer(*few, {"q-base": q_net}, source=trained_cnn, epsilons=EPSILONS)
    )
    page = browser.at(image=0, epsilon=2)
    made = fgsm_by_hand(trained_cnn, few.images[:1], EPSILONS[2])
    assert abs(page.grey(2) - bytes_of(made)).max() <= 1
    wanted = [100 * q_net(made, path=path).softmax(1)[0].detach().numpy() for path in ("q", "e")]
    assert abs(numbers(page) - np.stack(wanted, 1)).max() <= 0.51


def test_epsilon_explorer_switches_attacks(few, trained_cnn):
    widget = sliders.epsilon_explorer(*few, {"cnn": trained_cnn}, attack=("fgsm", "bim"), epsilons=EPSILONS)
    page = Browser(widget).at(image=0, attack=1, epsilon=1)
    assert (page.grey(2) == bytes_of(attacks.bim(trained_cnn, few.images[:1], eps=0.1))).all()


def test_epsilon_explorer_marks_where_an_answer_falls(few):
    """A network that answers 7 for as long as the brightest pixel is below a bound."""

    class Brittle(torch.nn.Module):
        def forward(self, x):
            bright = 50 * (x.flatten(1)[:, 0] - 0.15)
            return torch.nn.functional.one_hot(torch.tensor([7]), 10) * 5.0 - 10 * bright.sigmoid().unsqueeze(
                1
            ) * (torch.nn.functional.one_hot(torch.tensor([7]), 10))

    images = torch.zeros(1, 1, 28, 28)
    epsilons = tuple(i / 10 for i in range(5))
    widget = sliders.epsilon_explorer(images, torch.tensor([7]), {"cnn": Brittle().eval()}, epsilons=epsilons)
    page = Browser(widget).at(epsilon=3)
    assert "falls at 0.20" in page.text
    assert "M0 0h2v1H0zM2 .5H5" in page.html  # right at 0 and 0.1, wrong from there
    assert '<path d="M3.5 0v1"' in page.html  # the slider stands at 0.3
    assert "✗" in page.text and "✗" not in Browser(widget).at(epsilon=1).text


def test_bars_of_the_e_path_are_hollow(few, networks):
    page = Browser(sliders.epsilon_explorer(*few, networks, epsilons=EPSILONS)).at(image=0)
    rows = [row.split("<td>")[1:] for row in page.html.split("<tr")]
    drawn = {
        (column, 'class="e"' in cell) for cells in rows for column, cell in enumerate(cells) if "<i" in cell
    }
    assert drawn == {(0, False), (1, False), (2, True)}  # CNN, Q-path, E-path


def test_falling_is_told_from_standing_and_from_never_being_right(few, trained_cnn):
    clean = trained_cnn(few.images).argmax(1)
    stands = sliders.epsilon_explorer(few.images, clean, {"cnn": trained_cnn}, epsilons=(0.0, 0.001))
    assert "right up to 0.001" in Browser(stands).at(image=0).text
    wrong = sliders.epsilon_explorer(
        few.images, (clean + 1) % 10, {"cnn": trained_cnn}, epsilons=(0.0, 0.001)
    )
    assert "wrong when clean" in Browser(wrong).at(image=0).text


# ---- what the quantizer sees ----


def test_quantizer_view_shows_codes_and_marks_those_that_changed(few, q_net):
    browser = Browser(sliders.quantizer_view(q_net, *few, epsilons=EPSILONS))
    page = browser.at(image=1, epsilon=2)
    made = fgsm_by_hand(lambda x: q_net(x, path="e"), few.images[1:], EPSILONS[2])
    before, after = (q_net(x, path="both").layer for x in (few.images[1:], made))
    maps = list(page.images.values())[2:]
    for head in range(2):
        colours = {}
        for picture, out in zip(maps[2 * head : 2 * head + 2], (before, after), strict=True):
            pixels = np.asarray(picture.convert("RGB"))
            assert pixels.shape == (8 * 6, 8 * 6, 3)
            for row, column in itertools.product(range(8), range(8)):
                code = out.indices[head, 0, row, column].item()
                colours.setdefault(code, set()).add(tuple(pixels[6 * row, 6 * column]))
                changed = out is after and code != before.indices[head, 0, row, column]
                dot = pixels[6 * row + 1 : 6 * row + 5, 6 * column + 1 : 6 * column + 5]
                assert ((dot[1:3, 1:3] == 255).all() and (dot[0] == 0).all()) == changed
        assert all(len(seen) == 1 for seen in colours.values())
        assert len({*itertools.chain(*colours.values())}) == len(colours)
    share = 100 * (before.indices != after.indices).float().mean()
    moved = 100 * (before.projected - after.projected).norm() / before.projected.norm()
    jumped = 100 * (before.quantized - after.quantized).norm() / before.quantized.norm()
    assert share > 0
    for value in (share, moved, jumped):
        assert f"{value:.1f} %" in page.text


def test_nothing_has_changed_at_epsilon_zero(few, q_net):
    page = Browser(sliders.quantizer_view(q_net, *few, epsilons=EPSILONS)).at(image=0, epsilon=0)
    assert page.text.count("0 % changed") == 2 and page.text.count("0.0 %") == 3


# ---- the codebook explorer ----


def test_codebook_explorer_shows_the_patches_that_choose_a_code_most_strongly(digits, q_net):
    images = digits.images[:40]
    browser = Browser(sliders.codebook_explorer(q_net, images, patches=3))
    layer, projected = q_net.layer, q_net.layer.project(q_net.encoder(images))
    for head, rank in ((0, 0), (1, 1)):
        page = browser.at(head=head, use_rank=rank)
        panels = projected[:, 8 * head : 8 * head + 8].permute(0, 2, 3, 1)  # (N, 8, 8, dim)
        distances = (panels.unsqueeze(-2) - layer.codebook[head]).square().sum(-1)  # (N, 8, 8, codes)
        uses = torch.bincount(distances.argmin(-1).flatten(), minlength=16)
        code = uses.argsort(descending=True, stable=True)[rank].item()
        assert f"code {code}" in page.text and f"{uses[code]:,} times" in page.text
        others = distances.clone()
        others[..., code] = torch.inf
        margin = others.amin(-1) - distances[..., code]  # positive where the code wins
        best = margin.flatten(1).amax(1)
        shown = page.grey(0)
        for number, image in enumerate(best.argsort(descending=True)[:3].tolist()):
            row, column = divmod(margin[image].argmax().item(), 8)
            wanted = bytes_of(images[image, 0, 3 * row : 3 * row + 5, 3 * column : 3 * column + 5])
            assert abs(shown[1:6, 6 * number + 1 : 6 * number + 6] - wanted).max() <= 1


def test_codebook_explorer_counts_use_and_says_which_codes_have_none(digits, q_net):
    images = digits.images[:40]
    counts = q_net(images, path="both").layer.indices[0].flatten().bincount(minlength=16)
    shares = counts[counts > 0] / counts.sum()
    browser = Browser(sliders.codebook_explorer(q_net, images))
    page = browser.at(head=0, use_rank=15)
    assert "no position of these images chooses it" in page.text and not page.images
    assert f"{(counts == 0).sum()} are inactive" in page.text
    assert f"perplexity {(-(shares * shares.log()).sum()).exp():.1f}" in page.text


def test_accuracy_explorer_gives_the_values_at_its_line():
    curves = {
        "cnn": ((0.0, 0.1, 0.2), (98.0, 60.0, 20.0), 1000),
        ("q-base-adv", "e"): ((0.0, 0.2), (97.0, 81.5), 200),
    }
    browser = Browser(sliders.accuracy_explorer(curves))
    low, high = wilson(600, 1000)
    middle = browser.at(epsilon=1)
    assert f"60.0 % ({low:.1f} to {high:.1f})" in middle.text
    assert "Q-base (adv. trained), E-path - " in middle.text  # not recorded there
    assert '<path d="M500 0v1000"' in middle.html
    assert "81.5 %" in browser.at(epsilon=2).text


def test_accuracy_explorer_shows_the_range_over_seeds():
    curves = {"cnn": ((0.0, 0.1), (98.0, 60.0), ((97.0, 55.5), (98.5, 66.25)))}
    assert "60.0 % (55.5 to 66.2)" in Browser(sliders.accuracy_explorer(curves)).at(epsilon=1).text


def test_epsilon_explorer_opens_where_the_first_image_falls(few, trained_cnn):
    widget = sliders.epsilon_explorer(*few, {"cnn": trained_cnn}, epsilons=EPSILONS)
    (slider,) = (child for child in widget.children if isinstance(child, w.SelectionSlider))
    wrong = [
        trained_cnn(fgsm_by_hand(trained_cnn, few.images[:1], eps)).argmax() != few.labels[0]
        for eps in EPSILONS
    ]
    assert slider.index == wrong.index(True) > 0
    assert "✗" in Browser(widget).at().text


def test_accuracy_explorer_draws_each_model_in_its_look():
    page = Browser(sliders.accuracy_explorer({("q-large-adv", "e"): ((0.0, 0.4), (100.0, 50.0), 10)})).at()
    shade = names.VARIABLES[names.style("q-large-adv", "e")["color"]]
    assert (
        f'points="0,0 1000,500" fill="none" stroke="{shade}" stroke-width="2.5" stroke-dasharray' in page.html
    )
    assert page.html.count(slides.SHAPES["D"]) == 3  # two points and the legend


# ---- all of them ----


@pytest.fixture(scope="module")
def all_four(few, networks, q_net) -> list[w.VBox]:
    return [
        sliders.epsilon_explorer(*few, networks),
        sliders.quantizer_view(q_net, *few),
        sliders.codebook_explorer(q_net, few.images),
        sliders.accuracy_explorer({"cnn": ((0.0, 0.4), (98.0, 20.0), 1000)}),
    ]


def pages_of(widget: w.Widget) -> list[Page]:
    if isinstance(widget, w.HTML):
        return [Page(widget.value)]
    return [page for child in getattr(widget, "children", ()) for page in pages_of(child)]


def test_each_image_has_a_text_of_its_own_and_each_drawing_is_left_to_the_text(all_four):
    for widget in all_four:
        for page in pages_of(widget):
            assert len(page.images) == page.html.count("<img") and all(page.images)
            assert page.html.count("<svg") == page.html.count("<svg aria-hidden")


def test_pages_stay_small(all_four):
    for widget in all_four:
        assert len(json.dumps(dependency_state([widget]))) / len(pages_of(widget)) < 10_000


def test_no_page_asks_the_network(all_four):
    for widget in all_four:
        assert not any(re.search(r"https?:|url\(|@import", page.html) for page in pages_of(widget))


def test_names_of_classes_are_shown_as_they_are(few, trained_cnn):
    called = tuple(f"<{name}> & co" for name in datasets.find("mnist").class_names)
    widget = sliders.epsilon_explorer(*few, {"cnn": trained_cnn}, epsilons=EPSILONS, class_names=called)
    page = Browser(widget).at(epsilon=1)
    assert "<7> & co, true" in page.text and "<7>" not in page.html


def test_images_of_one_class_have_different_names(digits, trained_cnn):
    sevens = digits.images[digits.labels == 7][:2]
    widget = sliders.epsilon_explorer(sevens, torch.tensor([7, 7]), {"cnn": trained_cnn}, epsilons=EPSILONS)
    (choice,) = (child for child in widget.children if isinstance(child, w.Dropdown))
    assert choice.options == ("7 (1)", "7 (2)")


def test_a_control_without_a_choice_is_not_shown(few, trained_cnn):
    widget = sliders.epsilon_explorer(few.images[:1], few.labels[:1], {"cnn": trained_cnn}, epsilons=EPSILONS)
    controls = [c.description for c in widget.children if isinstance(c, w.Dropdown | w.SelectionSlider)]
    assert controls == ["epsilon"]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"epsilons": (0.2, 0.1)}, "ascending"),
        ({"epsilons": (0.1,)}, "at least two"),
        ({"epsilons": (0.0, 20)}, r"in \[0, 1\]"),
        ({"attack": "fgms"}, "'fgms'.*choose from fgsm, "),
        ({"attack": ()}, "choose from fgsm, "),
        ({"networks": {}}, "give at least one"),
        ({"networks": {"cnn": torch.nn.Linear(1, 1)}}, r"call eval\(\) first"),
        ({"source": torch.nn.Linear(1, 1)}, r"call eval\(\) first"),
        ({"images": torch.zeros(2, 28, 28)}, r"give \(N, channels, height, width\)"),
        ({"images": torch.full((2, 1, 28, 28), 255.0)}, r"must lie in \[0, 1\]"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, "one label per image"),
        ({"labels": torch.tensor([0, 10])}, "one name per class"),
    ],
)
def test_bad_arguments_are_explained(few, trained_cnn, change, message):
    arguments = {"images": few.images, "labels": few.labels, "networks": {"cnn": trained_cnn}} | change
    with pytest.raises(ValueError, match=message):
        sliders.epsilon_explorer(**arguments)


def test_views_of_codes_want_a_network_with_codes(few, trained_cnn):
    with pytest.raises(ValueError, match="needs a QNet"):
        sliders.quantizer_view(trained_cnn, *few)
    with pytest.raises(ValueError, match="needs a QNet"):
        sliders.codebook_explorer(trained_cnn, few.images)


def test_accuracy_explorer_explains_bad_curves():
    with pytest.raises(ValueError, match="curves is empty"):
        sliders.accuracy_explorer({})
    with pytest.raises(ValueError, match="cnn has 2 epsilons and 1 accuracies"):
        sliders.accuracy_explorer({"cnn": ((0.0, 0.1), (98.0,), 100)})
    with pytest.raises(ValueError, match="path is 'p'"):
        sliders.accuracy_explorer({("q-base", "p"): ((0.0, 0.1), (98.0, 9.0), 100)})
