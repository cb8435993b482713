"""The demo page in a real browser: an uploaded picture comes back with boxes."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.colors import color_detector, picture, save

pytest.importorskip("gradio", reason="gradio is not installed")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
RED, GREEN = (40, 30, 200, 150), (220, 160, 300, 220)


@pytest.fixture(scope="module")
def address():
    """Of the page, in a process of its own: gradio leaves threads and event loops behind."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = (
        "from ssd_jax.demo_page import serve; from tests.colors import color_detector; "
        f"serve(color_detector(canvas=320), host='127.0.0.1', port={port})"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", program], env=environment)
    for _ in range(600):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert process.poll() is None, "the page's process ended"
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def browser():
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"no Chromium ({', '.join(BROWSERS)}) on the path")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield opened
        opened.close()


def upload(page, path):
    page.locator("#given input[type=file]").set_input_files(str(path))


def test_an_uploaded_picture_comes_back_with_boxes(address, browser, tmp_path):
    page = browser.new_page(viewport={"width": 1280, "height": 1100})
    asked, faults = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda fault: faults.append(str(fault)))
    page.goto(address)
    image = picture(RED, GREEN, height=240, width=320)
    upload(page, save(tmp_path / "one.png", image))
    page.locator("#drawn img").wait_for(timeout=60_000)
    summary = page.locator("#summary")
    sync_api.expect(summary).to_contain_text("2 objects", timeout=30_000)
    for stage in ("decode and shrink", "network and NMS", "draw"):
        sync_api.expect(summary).to_contain_text(f"{stage} ")
    table = page.locator("#table")
    for text in ("red", "0.9", "40", "30", "200", "150", "green"):
        sync_api.expect(table).to_contain_text(text)
    # The picture itself: as large as the one that was given, with the outline of each box.
    source = page.locator("#drawn img").get_attribute("src")
    returned = page.request.get(source).body()
    drawn = cv2.imdecode(np.frombuffer(returned, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert drawn.shape == image.shape
    expected = color_detector(canvas=320)
    np.testing.assert_array_equal(drawn, expected.draw(image, expected(image)))
    page.screenshot(path=str(tmp_path / "page.png"))

    # green has .6: the slider of its class takes it out, the overall one brings it back.
    page.get_by_label("number input for green").fill("0.8")
    page.get_by_label("number input for green").press("Enter")
    sync_api.expect(summary).to_contain_text("1 objects", timeout=30_000)
    page.get_by_label("number input for score threshold").fill("0.3")
    page.get_by_label("number input for score threshold").press("Enter")
    sync_api.expect(summary).to_contain_text("2 objects", timeout=30_000)

    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG no picture")
    page.goto(address)
    upload(page, broken)
    sync_api.expect(page.locator("body")).to_contain_text(
        "cannot identify image file", timeout=30_000
    )

    assert not faults
    strange = {url for url in asked if not url.startswith((address, "data:", "blob:"))}
    assert not strange
    page.close()
