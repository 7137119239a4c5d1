"""The page that the notebook becomes: whole, offline, and alive in a browser."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest

from quant.errors import QuantError
from quant.eval.report import notebook as notebooks
from quant.eval.report.notebook import render
from tests.eval.report.pages import browsed
from tests.eval.report.small_run import NOISE, PROMPTS, recorded, write_run

pytestmark = pytest.mark.filterwarnings("ignore")

#: Put into a copy of the page: writes down what a browser made of it, once the videos have played.
#: The browser's clock is virtual and jumps over waits, but decoding takes real time: so `until` spends some.
PROBE = """
async function until(check) {
  for (let tries = 0; tries < 400 && !check(); tries += 1) {
    for (let spin = 0, sum = 0; spin < 4e6; spin += 1) sum += spin;
    await new Promise((done) => setTimeout(done, 20));
  }
}
addEventListener("load", async () => {
  const row = document.querySelector("[data-player]"), videos = [...row.querySelectorAll("video")];
  const all = [...document.querySelectorAll("video")], still = () => all.every((video) => !video.seeking);
  const button = row.querySelector('[data-do="play"]'), range = row.querySelector("input");
  const seen = {};
  await until(() => all.every((video) => video.readyState >= 2));
  if (button.textContent !== "Pause") button.click();
  await until(() => videos.every((video) => !video.paused && video.currentTime > 0));
  seen.playing = videos.map((video) => !video.paused && video.currentTime > 0);
  button.click();
  seen.paused = videos.every((video) => video.paused);
  range.value = 2;
  range.dispatchEvent(new Event("input"));
  await until(still);
  row.querySelector('[data-do="on"]').click();
  await until(still);
  seen.stepped = videos.map((video) => video.currentTime);
  row.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft" }));
  await until(still);
  seen.back = row.querySelector("output").value;
  document.querySelectorAll("[data-player]").forEach((other) => {
    const play = other.querySelector('[data-do="play"]');
    if (play.textContent === "Pause") play.click();
  });
  await until(() => all.every((video) => video.readyState >= 2));
  seen.ready = all.map((video) => [video.readyState, video.duration, video.videoWidth, video.videoHeight]);
  seen.plots = [...document.querySelectorAll("[data-plot]")].map((figure) => {
    const box = figure.querySelector("svg:not(.swatch)").getBoundingClientRect();
    return [figure.dataset.plot, box.width, box.height, figure.querySelectorAll("[data-model]").length];
  });
  seen.asked = performance.getEntriesByType("resource").map((entry) => entry.name.slice(0, 40));
  seen.wide = document.documentElement.scrollWidth - innerWidth;
  document.documentElement.dataset.seen = JSON.stringify(seen);
});
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    evil = "</title><script>alert(1)</script>\x1b[31m"
    conditions = {**recorded().body["conditions"], "model": evil}
    return write_run(tmp_path_factory.mktemp("report") / "run", conditions=conditions)


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    """The one rendering that the tests share: its kernel takes seconds to start. HOME is no folder meanwhile."""
    home = run.parent / "home"
    home.write_text("a file, so no folder can be made below it")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HOME", str(home))
        path = render(run)
    assert path == run / "report.html"
    return path.read_text(encoding="utf-8")


class Tags(HTMLParser):
    """All start tags, and the words outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.words.append(data)


def test_nothing_is_asked_of_another_place(page: str) -> None:
    tags = Tags(page).tags
    for tag, attributes in tags:
        for name in {"src", "href", "srcset", "action", "data", "poster", "xlink:href"} & set(attributes):
            assert attributes[name].startswith(("#", "data:")), (tag, name, attributes[name][:80])
    assert not {tag for tag, _ in tags} & {"iframe", "object", "embed", "base"}
    assert not re.search(r"@import|url\(|\bimport\(|fetch\(|XMLHttpRequest", page)
    for library in ("mathjax", "require.js", "requirejs", "cdnjs", "fonts.g"):
        assert library not in page.lower()
    policy = next(a["content"] for tag, a in tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:; media-src data:;")


def test_only_the_script_of_the_players_may_run_and_the_title_is_text(page: str) -> None:
    policy = next(a["content"] for tag, a in Tags(page).tags if a.get("http-equiv") == "Content-Security-Policy")
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert "script-src 'unsafe-inline'" not in page
    assert not [name for _, attributes in Tags(page).tags for name in attributes if name.startswith("on")]
    assert (
        "<title>&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt;\\x1b[31m: quality against latency</title>" in page
    )


def test_every_section_is_there_in_order(page: str) -> None:
    titles = [re.sub("<[^>]+>", "", title) for title in re.findall(r"<h2[^>]*>(.*?)</h2>", page)]
    assert titles == [
        "Quality against size and speed",
        "All metrics",
        "Candidate against candidate",
        "Side by side",
        "Prompts that suffered most",
        "Denoising steps",
        "Layers",
        "Speed and memory",
        "What was measured and what was estimated",
        "Metric networks",
        "How it was made",
    ]
    words = " ".join(Tags(page).words)
    for prompt in PROMPTS:
        assert prompt in words
    for text in (*NOISE, "not enough samples", "too few samples: N=4, D=400", "quant eval run config.yaml --out runs"):
        assert text in words
    assert "reference arithmetic on a CPU: not a kernel" in words
    assert "recorded = read(run)" not in page  # no code


def test_ids_are_unique(page: str) -> None:
    ids = [attributes["id"] for _, attributes in Tags(page).tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_notebook_is_kept_with_its_outputs_and_opens_anywhere(run: Path, page: str) -> None:
    notebook = nbformat.read(run / "report.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    parameters = [cell.source for cell in notebook.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    assert len(parameters) == 1
    assert str(run.resolve()) in parameters[0]
    assert all(len(cell.source.splitlines()) <= 16 for cell in notebook.cells)
    assert sum(bool(cell.get("outputs")) for cell in notebook.cells) >= 10


def test_it_can_be_written_elsewhere(run: Path, page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = nbformat.read(run / "report.ipynb", as_version=4)
    ran: list[Path] = []

    def executed(notebook: object, folder: Path) -> nbformat.NotebookNode:
        ran.append(folder)
        return done

    monkeypatch.setattr(notebooks, "_executed", executed)
    place = tmp_path / "new" / "place"
    assert render(run, out=place) == place / "report.html"
    assert ran == [run]
    assert {path.name for path in place.iterdir()} == {"report.html", "report.ipynb"}
    assert (place / "report.html").read_text(encoding="utf-8") == page


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QuantError, match=r"results\.json: no such results"):
        render(tmp_path)


@pytest.mark.parametrize("width", [1280, 500])
def test_a_browser_draws_plots_and_plays_videos_together(page: str, tmp_path: Path, width: int) -> None:
    seen = browsed(page, PROBE, tmp_path, width=width)
    # 3 rows of the original, two candidates and two differences; 6 frames at 8 a second
    assert len(seen["ready"]) == 3 * 5
    for state, duration, wide, high in seen["ready"]:
        assert state >= 2
        assert duration == pytest.approx(6 / 8, abs=0.01)
        assert (wide, high) == (256, 192)
    assert seen["playing"] == [True] * 5
    assert seen["paused"] is True
    assert seen["stepped"] == pytest.approx([3.5 / 8] * 5, abs=1e-3)  # the middle of the fourth frame
    assert seen["back"] == "3 / 6"
    assert {name: models for name, _, _, models in seen["plots"]} == {
        "pareto-psnr-size": 2,
        "pareto-psnr": 2,  # estimated for a GPU: a CPU's times are not plotted
        "steps": 2,
        "heat": 0,
    }
    assert all(across > 100 and high > 100 for _, across, high, _ in seen["plots"])
    assert [name for name in seen["asked"] if not name.startswith("data:")] == []
    assert seen["wide"] <= 0  # the page itself does not scroll to the side
