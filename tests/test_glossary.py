"""The glossary: one list in order, every word that the book leans on, and no pointer to a word that is not there."""

import re

import nbformat
import website

BOOK = website.ROOT / "book"
TEXT = (BOOK / "glossary.md").read_text()
TERMS = re.findall(r"^(\S.*)$", TEXT[TEXT.index("```{glossary}") :], re.MULTILINE)[1:-1]


def letters(term: str) -> str:
    return re.sub(r"[^a-z0-9]", "", term.lower())


def pages() -> dict[str, str]:
    """Return the text of every page by its name."""
    found = {path.stem: path.read_text() for path in BOOK.glob("*.md")}
    for path in BOOK.glob("*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        found[path.stem] = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return found


def test_terms_stand_once_and_in_order():
    assert [letters(term) for term in TERMS] == sorted({letters(term) for term in TERMS})


def test_every_pointer_leads_to_a_term():
    known = {term.lower() for term in TERMS}
    for name, text in pages().items():
        for pointer in re.findall(r"\{term\}`([^`]*)`", text):
            target = re.sub(r".*<(.*)>", r"\1", " ".join(pointer.split()))
            assert target.lower() in known, f"{name}: {target}"


def test_words_that_a_reader_may_not_know_are_there():
    wanted = {
        *(
            "attack success",
            "autocast",
            "batch normalisation",
            "convolution",
            "cross-entropy",
            "decay",
            "encoder",
        ),
        *("epoch", "feature map", "margin", "mixed set", "patience", "position", "receptive field", "ReLU"),
        *("stop-gradient", "straight-through", "threat model", "Wilson interval"),
        *("certified robustness", "Q-base, Q-inner, Q-large", "Q-Layer"),
    }
    assert wanted <= set(TERMS)


def test_the_drawing_for_narrow_screens_uses_the_words_of_the_wide_one():
    """Both stand for the same picture, under one alt text: what is gated in one is not unchanged in the other."""
    wide, upright = (
        set(re.findall(r"[\w-]+", " ".join(re.findall(r">([^<>]+)</text>", path.read_text()))))
        for path in (BOOK / "_static" / f"two-paths{name}.svg" for name in ("", "-upright"))
    )
    assert upright <= wide and "gated" in upright
