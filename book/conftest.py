"""What nbval has run is what the book shows: a chapter whose cells have all passed goes to the book's cache.

So the book's build does not run it a second time.
"""

import copy
import time
from collections.abc import Generator
from pathlib import Path

import nbformat
import pytest
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionComplete
from nbval.plugin import IPyNbCell, IPyNbFile

CACHE = (
    Path(__file__).parent.parent / "_build" / ".jupyter_cache"
)  # where Jupyter Book looks


class Recorder:
    """Keeps what the cells of one chapter put out, widgets included, as nbclient does for the book."""

    def __init__(self, chapter: IPyNbFile):
        self.path, self.kernel = chapter.path, chapter.kernel
        notebook = copy.deepcopy(chapter.nb)
        notebook.metadata.pop("widgets", None)
        told = self.kernel.kc.kernel_info(reply=True, timeout=60)["content"]
        notebook.metadata["language_info"] = told["language_info"]
        self.client = NotebookClient(notebook, record_timing=False)
        self.client.reset_execution_trackers()
        places = enumerate(notebook.cells)
        code = [place for place in places if place[1].cell_type == "code"]
        self.waiting, self.place = dict(enumerate(code)), None
        self.seconds, self.hear = 0.0, self.kernel.get_message
        self.kernel.get_message = self.listen

    def listen(self, stream: str, timeout: float | None = None) -> dict:
        """Pass on a message of the kernel, and keep what it puts out."""
        message = self.hear(stream, timeout)
        cause = message["parent_header"].get("msg_type")
        if self.place and (stream, cause) == ("iopub", "execute_request"):
            at, cell = self.place
            try:
                self.client.process_message(message, cell, at)
            except CellExecutionComplete:
                self.place = None
        return message

    def run(self, number: int) -> Generator[None, object, object]:
        """Keep the outputs of one cell while nbval runs it."""
        self.place = _, cell = self.waiting[number]
        cell.outputs = []
        self.client.clear_before_next_output = False  # as nbclient begins
        started = time.perf_counter()
        result = yield  # raises where the cell fails: it goes on waiting
        self.seconds += time.perf_counter() - started
        del self.waiting[number]
        if not self.waiting:
            self.publish()
        return result

    def publish(self) -> None:
        """Put the chapter where the book's build finds it.

        The cache sorts widgets by their names, which are random. Numbered,
        they keep their order, in which each resembles the one before it: the
        page packs to fewer bytes, and to as many each time.
        """
        self.client.set_widgets_metadata()
        text = nbformat.writes(self.client.nb)
        for number, name in enumerate(self.client.widget_state):
            text = text.replace(name, f"{number:032x}")
        notebook = nbformat.reads(text, as_version=4)
        took = {"execution_seconds": self.seconds}
        bundle = CacheBundleIn(notebook, str(self.path), data=took)
        get_cache(CACHE).cache_notebook_bundle(
            bundle, check_validity=False, overwrite=True
        )


RECORDER = pytest.StashKey[Recorder]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the cache before several processes write to it."""
    if not hasattr(config, "workerinput"):
        get_cache(CACHE).list_cache_records()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(
    item: pytest.Item,
) -> Generator[None, object, object]:
    """Let the chapter's recorder watch each of its cells."""
    if not isinstance(item, IPyNbCell):
        return (yield)
    stash = item.parent.stash
    if RECORDER not in stash:
        stash[RECORDER] = Recorder(item.parent)
    return (yield from stash[RECORDER].run(item.cell_num))
