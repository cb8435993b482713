"""The report in a real browser: sorting, filtering, pictures, and nothing said in the console."""

import collections
import contextlib
import dataclasses
import json
import shutil

import cv2
import numpy as np
import pytest

from ssd_jax.data import Dataset
from ssd_jax.data.objects import collect_objects
from ssd_jax.evaluation.evaluator import Evaluation
from ssd_jax.evaluation.page import render_page
from ssd_jax.evaluation.report import metrics
from ssd_jax.evaluation.scores import METRICS, score
from ssd_jax.evaluation.speed import Speed
from tests.evaluation.make import random_results

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HOSTILE = "</script><b>cat"


class Pictures:
    """Examples of grey pictures of 300 x 300 pixels."""

    def __init__(self, count):
        self._count = count

    def __len__(self):
        return self._count

    def __getitem__(self, row):
        _, encoded = cv2.imencode(".jpg", np.full((300, 300, 3), 40 + 5 * row, np.uint8))
        return {"image": encoded.tobytes(), "turned": False, "name": self.name(row)}

    def name(self, row):
        return f"{row:03}.jpg"

    @property
    def objects(self):
        return collect_objects(())


def evaluation_of(class_names):
    results = random_results(np.random.default_rng(3), images=30, classes=len(class_names))
    results = dataclasses.replace(results, class_names=class_names)
    scores = score(results, list(METRICS), inclusive_pixels=False, threshold_inclusive=False)
    dataset = Dataset("made up", "test", Pictures(30), class_names)
    return Evaluation(dataset, results, [*range(30)], 12.0, scores, "voc")


@pytest.fixture(scope="module")
def evaluation():
    return evaluation_of((HOSTILE, "dog", "emu"))


@pytest.fixture(scope="module")
def html(evaluation):
    return page_of(evaluation)


def page_of(evaluation):
    speeds = [Speed(1, 0.001, 0.002, 0.03, 0.004), Speed(8, 0.008, 0.016, 0.2, 0.03)]
    figures = metrics(
        evaluation,
        7,
        inclusive_pixels=False,
        threshold_inclusive=False,
        changes={"detect.clip": "never"},
    )
    return render_page(evaluation, figures, speeds=speeds, device="cpu")


def test_nothing_is_loaded_from_elsewhere(html):
    for mark in ('src="http', "src='http", "@import", '<link rel="stylesheet', "url(", "fetch("):
        assert mark not in html
    assert HOSTILE not in html  # it would end the script


def test_the_data_are_the_figures_of_the_evaluation(html, evaluation):
    start = html.index('id="data">') + len('id="data">')
    data = json.loads(html[start : html.index("</script>", start)])
    assert data["names"][1] == HOSTILE
    assert data["means"]["voc"] == evaluation.scores.mean_ap["voc"]
    assert np.sum(data["confusion"]) > 0
    assert {item["group"] for item in data["items"]} == {"hit", "false positive", "missed"}
    assert {str(item["image"]) for item in data["items"]} == set(data["pictures"])


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"no Chromium ({', '.join(BROWSERS)}) on the path")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield opened
        opened.close()


@contextlib.contextmanager
def opened_page(browser, html, folder, width):
    path = folder / "report.html"
    path.write_text(html, encoding="utf-8")
    opened = browser.new_page(viewport={"width": width, "height": 800})
    said = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda r: r.url.startswith(("file:", "data:")) or said.append(r.url))
    opened.goto(path.as_uri())
    yield opened
    opened.close()
    assert said == []


@pytest.fixture(params=[1280, 390], ids=["desktop", "phone"])
def page(request, browser, html, tmp_path):
    with opened_page(browser, html, tmp_path, request.param) as opened:
        yield opened


def column(page, number):
    return page.locator(f"#class-table tbody td:nth-child({number})").all_inner_texts()


def test_the_table_sorts_by_any_column(page):
    before = column(page, 1)
    assert before == [HOSTILE, "dog", "emu"]
    heading = page.locator("#class-table th", has_text="AP VOC07").locator("button")
    heading.click()
    falling = [float(text) for text in column(page, 2)]
    assert falling == sorted(falling, reverse=True)
    heading.click()
    assert [float(text) for text in column(page, 2)] == sorted(falling)
    assert len(set(falling)) == 3
    page.locator("#class-table th button").first.click()
    assert sorted(column(page, 1)) == sorted(before)


def test_the_gallery_filters_and_every_picture_loads(page):
    for group in ("hit", "false positive", "missed"):
        page.locator(f'[data-group="{group}"]').click()
        pictures = page.locator("#pictures figure")
        assert pictures.count() > 0
        loaded = page.evaluate(
            "Promise.all([...document.querySelectorAll('#pictures img')]"
            ".map(i => i.decode().then(() => i.naturalWidth)))"
        )
        assert min(loaded) > 100
        assert page.locator("#pictures figure svg .halo").count() >= pictures.count()
    page.locator('[data-group="hit"]').click()
    everything = page.locator("#pictures figure").count()
    page.select_option("#gallery-class", "2")
    dogs = page.locator("#pictures figcaption b").all_inner_texts()
    assert 0 < len(dogs) < everything
    assert all(text.startswith("dog ") for text in dogs)


def test_curves_follow_the_class_and_nothing_is_wider_than_the_screen(page):
    assert page.locator("#curve-plot .legend").inner_text().split() == [
        *HOSTILE.split(),
        "dog",
        "emu",
    ]
    for chooser, plot in (("curve", "curve"), ("calibration", "calibration")):
        page.select_option(f"#{chooser}-class", "3")
        assert page.locator(f"#{plot}-plot .dot").count() > 0
    assert page.locator("#confusion-table tbody tr").count() == 4
    assert page.locator("#error-table tbody tr").count() == 6
    assert page.locator("#size-table tbody tr").count() == 3
    assert page.locator("#speed-table tbody tr").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_of_many_classes_those_of_most_mistakes_and_most_objects_are_shown(browser, tmp_path):
    evaluation = evaluation_of(tuple(f"class {k}" for k in range(1, 131)))
    html = page_of(evaluation)
    start = html.index('id="data">') + len('id="data">')
    data = json.loads(html[start : html.index("</script>", start)])
    groups = collections.Counter(item["group"] for item in data["items"])
    assert 10 < max(groups.values()) <= 96

    matrix = np.array(data["confusion"])
    np.fill_diagonal(matrix, 0)
    mistakes = (matrix.sum(0) + matrix.sum(1))[1:]
    chosen = np.sort(np.argsort(-mistakes, kind="stable")[:100])
    with opened_page(browser, html, tmp_path, 1280) as page:
        headers = page.locator("#confusion-table tbody th").all_inner_texts()
        assert headers == [*(f"class {k + 1}" for k in chosen), "no object"]
        assert page.locator("#confusion-note").inner_text().startswith("Of 130 classes the 100 ")
