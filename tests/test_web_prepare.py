"""A digit of one's own as MNIST has it: in Python, and in the page, which must give the same bytes.

The last test needs the site (`make book`) and Chromium.
"""

import base64
import io

import numpy as np
import pytest
import torch
import web
from PIL import Image

from qlayer_core import data
from qlayer_core.prepare import prepare

address, browser = web.address, web.browser  # fixtures


def drawing(width, height, seed=0, margin=5, ink=255, paper=0):
    """A picture with ink of exactly this size: a few lines between its edges."""
    random = np.random.default_rng(seed)
    pixels = np.full((height + 2 * margin, width + 2 * margin), paper, np.uint8)
    inner = pixels[margin : margin + height, margin : margin + width]
    thick = max(1, min(width, height) // 8)
    inner[:thick] = inner[:, -thick:] = ink
    for _ in range(3):
        row, column = random.integers(0, height), random.integers(0, width)
        inner[row : row + thick, column:] = ink
    inner[-1, 0] = ink  # it reaches every edge
    return pixels


def levels(image):
    return (255 * image[0, 0]).round().int().numpy()


def span(image):
    """Rows and columns that the ink of a prepared image takes."""
    rows, columns = (levels(image).any(axis).nonzero()[0] for axis in (1, 0))
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


# ---- Python's own


def test_digits_of_mnist_stay_as_they_are():
    """Up to one pixel of place: MNIST's centre of mass lies anywhere in the pixel behind the middle."""
    for image in data.load("mnist", "test").images[:200]:
        ours = prepare(image[0])[0]
        moved = [torch.roll(ours, (dy, dx), (1, 2)) for dy in (0, 1) for dx in (0, 1)]
        assert any(torch.equal(shifted, image) for shifted in moved)


@pytest.mark.parametrize(
    "width, height", [(147, 90), (90, 147), (1, 40), (40, 1), (20, 20), (3, 2), (640, 479), (1, 1)]
)
def test_any_size_fits_the_box(width, height):
    image = prepare(drawing(width, height))
    assert image.shape == (1, 1, 28, 28) and image.dtype == torch.float32
    assert image.min() >= 0 and image.max() <= 1
    assert max(span(image)) == 20
    shorter = 20 * min(width, height) / max(width, height)
    assert shorter <= min(span(image)) + 1e-9 and min(span(image)) <= shorter + 1


def test_centre_of_mass_is_the_middle():
    found = levels(prepare(drawing(60, 100, seed=3)))
    centre = [(found * (axis + 0.5)).sum() / found.sum() for axis in np.mgrid[:28, :28]]
    assert np.abs(np.array(centre) - 14).max() <= 0.5


def test_paper_may_be_light_dark_coloured_or_transparent():
    """All of these show the same ink."""
    ink = drawing(60, 90) > 0
    expected = prepare(ink)
    opaque = np.full((*ink.shape, 1), 255, np.uint8)
    black, white = np.zeros((*ink.shape, 3), np.uint8), np.full((*ink.shape, 3), 255, np.uint8)
    seen = 255 * ink[..., None].astype(np.uint8)
    same = {
        "dark on light": np.where(ink, 0, 255).astype(np.uint8),
        "floats": ink.astype(np.float32),
        "a PIL image": Image.fromarray(np.where(ink, 0, 255).astype(np.uint8)),
        "a tensor": torch.from_numpy(ink.astype(np.float32)),
        "colours": np.where(ink[..., None], black, white),
        "with opacity": np.concatenate([np.where(ink[..., None], black, white), opaque], 2),
        "black on nothing": np.concatenate([black, seen], 2),
        "white on nothing": np.concatenate([white, seen], 2),
        "grey paper": np.where(ink, 0, 200).astype(np.uint8),
    }
    for name, picture in same.items():
        assert torch.equal(prepare(picture), expected), name


def test_grain_of_the_paper_is_no_ink():
    random = np.random.default_rng(1)
    clean = drawing(60, 90, ink=20, paper=225).astype(int)
    photo = (clean + random.integers(-6, 7, clean.shape)).clip(0, 255).astype(np.uint8)
    assert span(prepare(photo)) == span(prepare(clean))


def test_pencil_is_made_as_strong_as_a_pen():
    assert levels(prepare(drawing(60, 90, ink=140, paper=250))).max() == 255


def test_reads_a_file(tmp_path):
    file = tmp_path / "digit.png"
    Image.fromarray(drawing(30, 50)).save(file)
    assert torch.equal(prepare(file), prepare(drawing(30, 50)))
    assert torch.equal(prepare(str(file)), prepare(file))


def test_photograph_is_turned_as_the_camera_was_held(tmp_path):
    pixels, file = drawing(30, 50), tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    Image.fromarray(pixels).save(file, exif=exif)
    assert torch.equal(prepare(file), prepare(np.rot90(pixels, -1)))


@pytest.mark.parametrize(
    "picture, error, words",
    [
        (np.zeros((9, 9)), ValueError, "nothing but its background"),
        (np.full((9, 9), 0.5), ValueError, "nothing but its background"),
        (
            np.pad(np.ones((1, 1)), ((9, 790), (9, 790))) + np.pad([[1.0]], ((790, 9), (790, 9))),
            ValueError,
            "specks",
        ),
        (np.full((9, 9), 3.0), ValueError, "divide levels of 0 to 255 by 255"),
        (np.full((9, 9), np.nan), ValueError, "floats must be levels"),
        (np.full((9, 9), 300), ValueError, "integers must be levels"),
        (np.zeros((2, 1, 28, 28)), ValueError, r"one image is batch\[i, 0\]"),
        (np.zeros((9, 0)), ValueError, "is no picture"),
        (np.zeros((9, 9), complex), TypeError, "has no levels"),
        (Image.new("F", (9, 9)), ValueError, "convert"),
        (None, TypeError, "not NoneType"),
        ("nowhere.png", FileNotFoundError, "nowhere.png"),
        (__file__, ValueError, "no picture that Pillow can read"),
    ],
)
def test_errors_teach(picture, error, words):
    with pytest.raises(error, match=words):
        prepare(picture)


# ---- The page's


def pictures():
    """PNGs by what is odd about them."""
    made = {
        f"{w} x {h}": drawing(w, h, seed=w)
        for w, h in [(147, 90), (90, 147), (1, 40), (41, 1), (333, 222), (3, 2)]
    }
    random = np.random.default_rng(2)
    photo = drawing(120, 160, ink=40, paper=215).astype(int)
    made["photograph"] = (photo + random.integers(-7, 8, photo.shape)).clip(0, 255).astype(np.uint8)
    made["pencil"] = drawing(50, 70, ink=150, paper=245)
    made["ink at the edge"] = drawing(50, 70, margin=0)
    made["colours"] = random.integers(0, 60, (80, 60, 3), np.uint8) + np.uint8(190)
    made["colours"][20:60, 25:32] = (200, 30, 60)
    made["transparent"] = np.zeros((60, 50, 4), np.uint8)
    made["transparent"][10:50, 20:27, 3] = 255
    made["MNIST"] = (255 * data.load("mnist", "test").images[0, 0]).round().byte().numpy()
    return made


def test_page_lets_go_of_every_picture_that_it_has_read(browser, address):
    """A digit, a blank one, two specks and one that is too large: a closed picture has no size."""
    page = browser.new_page()
    page.goto(f"{address}/book/glossary.html")
    found = page.evaluate(
        """async module => {
            const { prepareFile } = await import(module), read = createImageBitmap, pictures = [], words = [];
            window.createImageBitmap = async (...given) => {
                pictures.push(await read(...given));
                return pictures.at(-1);
            };
            for (const [side, ink] of [[30, 9], [30, 0], [800, 1], [7100, 0]]) {
                const canvas = new OffscreenCanvas(side, side), context = canvas.getContext('2d');
                context.fillRect(9, 9, ink, ink);
                context.fillRect(side - 9, side - 9, ink, ink);
                await prepareFile(await canvas.convertToBlob()).catch(({ message }) => words.push(message));
            }
            return { sizes: pictures.map(({ width }) => width), words };
        }""",
        f"{address}/_static/lab/images.js",
    )
    page.close()
    assert found["sizes"] == [0, 0, 0, 0]
    blank, specks, large = found["words"]
    assert "background" in blank and "specks" in specks and "50 million" in large


def test_page_prepares_as_python_does(browser, address):
    found = {}
    page = browser.new_page()
    page.goto(f"{address}/book/glossary.html")
    for name, pixels in pictures().items():
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        found[name] = page.evaluate(
            """async ([content, module]) => {
                const { prepareFile } = await import(module);
                const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
                return [...await prepareFile(new Blob([bytes], { type: 'image/png' }))];
            }""",
            [base64.b64encode(file.getvalue()).decode(), f"{address}/_static/lab/images.js"],
        )
    page.close()
    apart = {
        name: float(np.abs(np.array(found[name], np.float32) - prepare(pixels).flatten().numpy()).max())
        for name, pixels in pictures().items()
    }
    assert not {name: value for name, value in apart.items() if value > 0}
