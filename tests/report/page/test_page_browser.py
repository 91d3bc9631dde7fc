"""The page in a headless Chromium, controlled through a pipe by its own protocol."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from analogmed.report import write_report
from analogmed.tables.robustness import STRIP_IMAGES, STRIP_SIGNALS

pytestmark = pytest.mark.slow

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-dev-shm-usage", "--no-first-run", "--disable-sync", "--disable-extensions",
    "--disable-component-update", "--no-default-browser-check", "--hide-scrollbars",
    "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE_S = 120
SLIDER = "document.querySelector('input[type=range]')"
OUTLINE = """
[...document.querySelector('.contours').querySelectorAll('path.prediction')]
  .map((path) => path.getAttribute('d')).join('')
"""
PICTURE = "document.querySelector('.contours use').getAttribute('href')"
SMALLEST = """
(() => {
  const sizes = [];
  for (const each of document.querySelectorAll("body *")) {
    if (!each.checkVisibility() || each.closest(".visually-hidden")) continue;
    if ([...each.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()))
      sizes.push(parseFloat(getComputedStyle(each).fontSize));
    const glyphs = /scale\\(0\\.\\d+ -0\\.\\d+\\)/.test(each.getAttribute("transform") || "");
    if (glyphs && each.closest(".chart")) {
      const { a, b } = each.getScreenCTM();
      sizes.push(100 * Math.hypot(a, b));
    }
  }
  return Math.min(...sizes);
})()
"""
CONTRAST = """
(() => {
  const luminance = (color) => {
    const [r, g, b] = color.match(/[\\d.]+/g).map(Number).slice(0, 3).map((v) => {
      const share = v / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (!/rgba\\(.*, 0\\)|transparent/.test(color)) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const texts = [...document.querySelectorAll(
    "h1, h2, h3, p, li, td, th, small, dt, dd, a, summary, label, legend, figcaption, output"
  )].filter((element) => element.textContent.trim() && element.checkVisibility());
  return Math.min(...texts.map((element) => {
    const pair = [luminance(getComputedStyle(element).color), luminance(behind(element))];
    return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
  }));
})()
"""


class Browser:
    """One tab; what pages ask for and complain about is kept."""

    def __init__(self, program: str, profile: Path) -> None:
        to_browser, self._to = os.pipe()
        self._from, from_browser = os.pipe()
        on_pipes = ["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "bash"]
        self._process = subprocess.Popen(
            [*on_pipes, program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._rest, self._number, self._session = b"", 0, ""
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._loaded = False
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def open(self, path: Path, *, width: int = 1280, scheme: str = "light") -> None:
        """Load a file and wait until it is there."""
        size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.media("", scheme)
        self.requests.clear()
        self.complaints.clear()
        self._loaded = False
        self.call("Page.navigate", url=path.resolve().as_uri())
        deadline = time.monotonic() + PATIENCE_S
        while not self._loaded:
            self._take(deadline)

    def media(self, kind: str, scheme: str = "light") -> None:
        """``screen``, ``print`` or as it is; ``light`` or ``dark``."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", media=kind, features=[feature])

    def run(self, script: str) -> Any:
        """Value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Press and release a key."""
        for kind in ("rawKeyDown", "keyUp"):
            event = {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", **event)

    def image(self, method: str = "Page.captureScreenshot", **parameters: Any) -> bytes:
        """What the page looks like."""
        return base64.b64decode(self.call(method, **parameters)["data"])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol and wait for its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE_S
        while (answer := self._take(deadline)).get("id") != self._number:
            pass
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def close(self) -> None:
        """End the browser."""
        os.close(self._to)
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._from)

    def _take(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            patience_s = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([self._from], [], [], patience_s)
            assert ready, "the browser does not answer"
            data = os.read(self._from, 1 << 20)
            assert data, f"the browser ended with status {self._process.wait()}"
            self._rest += data
        text, self._rest = self._rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, told: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(told["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning"):
            self.complaints.append(json.dumps(told["args"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.complaints.append(told["entry"]["text"])


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    tab = Browser(program, tmp_path_factory.mktemp("profile"))
    yield tab
    tab.close()


@pytest.fixture(scope="module")
def page(make_run, tmp_path_factory):
    run = make_run(
        tmp_path_factory.mktemp("runs") / "run",
        case="<img src=x onerror=console.error(1)>",
        classes=("liver", "spleen"),
        planes=("axial", "coronal"),
        variance=True,
    )
    return write_report([run])[0]


@pytest.fixture(scope="module")
def page_of_models(make_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "run"
    return write_report([make_run(folder, models=("unet", "unetpp"))])[0]


def test_the_page_opens_from_disk_without_a_request_or_a_complaint(browser, page):
    browser.open(page)
    asked = [url for url in browser.requests if not url.startswith("data:")]
    assert asked == [page.resolve().as_uri()]
    assert browser.complaints == []
    assert browser.run("document.images.length") == 0


def test_the_slider_changes_the_picture_by_keyboard(browser, page):
    browser.open(page)
    browser.run(f"{SLIDER}.scrollIntoView({{block: 'start'}}); {SLIDER}.focus()")
    before = browser.run(OUTLINE), browser.image()
    assert browser.run(f"{SLIDER}.getAttribute('aria-valuetext')") == "t0"
    browser.press("ArrowRight", 39)
    assert browser.run(OUTLINE) != before[0]
    assert browser.image() != before[1]
    assert browser.run(f"{SLIDER}.getAttribute('aria-valuetext')") == "1 day"
    assert browser.run("document.querySelector('output').textContent") == "1 day"
    shown = "[...document.querySelectorAll('.dice')].map((each) => each.textContent)"
    assert browser.run(shown) == ["Dice 0.10", "Dice 0.40"]
    assert "Dice 0.10" in browser.run("document.querySelector('[role=status]').textContent")
    browser.press("ArrowLeft", 37)
    assert browser.run(OUTLINE) == before[0]
    assert browser.complaints == []


def test_plane_and_class_are_switched(browser, page):
    browser.open(page)
    seen = [(browser.run(OUTLINE), browser.run(PICTURE))]
    shades = "document.querySelector('.uncertainty image').getAttribute('href')"
    shaded = browser.run(shades)
    for control, value in (("class", 1), ("plane", 1)):
        browser.run(
            f"document.querySelector('[data-control={control}][value=\"{value}\"]').click()"
        )
        seen.append((browser.run(OUTLINE), browser.run(PICTURE)))
    outlines = [outline for outline, _ in seen]
    assert len(set(outlines)) == 3
    assert outlines[0].count("M") == 2 and outlines[1].count("M") == 1
    assert seen[0][1] == seen[1][1] != seen[2][1]
    assert browser.run(shades) != shaded
    assert browser.run("document.querySelector('.contours svg').getAttribute('viewBox')") == (
        "0 0 24 64"
    )
    assert browser.complaints == []


def test_all_trainings_of_the_chosen_model_are_side_by_side(browser, page_of_models):
    browser.open(page_of_models)
    data = json.loads(browser.run("document.querySelector('[id$=-data]').textContent"))
    assert data["networks"][2:] == ["Digitally trained U-Net++", "Hardware-aware U-Net++"]
    stop, contours = data["start"]["stop"], data["cases"][0]["planes"]["slice"]["prediction"]
    drawn = (
        "[...document.querySelectorAll('.contours path.prediction')]"
        ".map((each) => each.getAttribute('d'))"
    )
    for model in (1, 0):
        browser.run(f"document.querySelector('[data-control=model][value=\"{model}\"]').click()")
        expected = [contours[network][stop][0] for network in data["groups"][model]]
        assert browser.run(drawn) == expected
    tops = (
        "[...document.querySelectorAll('.panel')].map((each) => each.getBoundingClientRect().top)"
    )
    assert len(set(browser.run(tops))) == 1
    assert browser.complaints == []


def test_each_class_has_its_color(browser, page):
    browser.open(page)
    colors = (
        "[...document.querySelector('.contours').querySelectorAll('path.{}')]"
        ".map((each) => getComputedStyle(each).stroke)"
    )
    reference, prediction = (browser.run(colors.format(k)) for k in ("reference", "prediction"))
    assert reference == prediction and len(set(reference)) == 2


@pytest.fixture(scope="module")
def page_of_kind(tables_of, tmp_path_factory):
    """Function that returns the page of a small run of a kind."""

    @cache
    def make(kind):
        folder = tmp_path_factory.mktemp(kind)
        for name, table in tables_of(kind).items():
            table.to_csv(folder / f"{name}.csv", index=False)
        return write_report([folder])[0]

    return make


KINDS = ("training", "uncertainty", "mitigation", "sensitivity", "placement")


CAPTIONS = """
(() => {
  const outside = [];
  for (const caption of document.querySelectorAll("caption:not(.visually-hidden)")) {
    const table = caption.closest(".scroll");
    if (!caption.checkVisibility() || caption.closest("details")) continue;
    table.scrollLeft = 150;
    const text = caption.firstElementChild.getBoundingClientRect();
    const view = table.getBoundingClientRect();
    if (text.left < view.left - 1 || text.right > view.right + 1) outside.push(caption.textContent);
  }
  return outside;
})()
"""


def test_captions_of_wide_tables_stay_in_view_on_a_phone(browser, page):
    browser.open(page, width=390)
    wide = "[...document.querySelectorAll('.scroll')].some((e) => e.scrollWidth > e.clientWidth)"
    assert browser.run(wide)
    assert browser.run(CAPTIONS) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_of_all_kinds_fit_the_window_with_readable_text(browser, page_of_kind, kind, width):
    browser.open(page_of_kind(kind), width=width)
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run(SMALLEST) >= 11.9
    hidden = "[...document.querySelectorAll('.chart .wide')].filter((e) => e.checkVisibility())"
    assert (browser.run(f"{hidden}.length") == 0) == (width == 390 or kind == "uncertainty")


@pytest.mark.parametrize("width", [360, 390, 820, 1280])
def test_no_text_is_smaller_than_12_pixels(browser, page, width):
    browser.open(page, width=width)
    assert browser.run(SMALLEST) >= 11.9


def test_the_loss_comes_first_on_a_phone(browser, page):
    browser.open(page, width=390)
    tops = "[...document.querySelectorAll('article > section, .findings')]"
    first = (
        f"{tops}.sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top)[0]"
    )
    assert browser.run(f"{first}.id") == "run1-time"


def test_the_slider_stays_in_sight_above_the_cases(browser, page_of_models):
    browser.open(page_of_models, width=390)
    at_once = "{block: 'end', behavior: 'instant'}"
    browser.run(f"document.querySelector('[data-case] figcaption').scrollIntoView({at_once})")
    place = f"{SLIDER}.getBoundingClientRect()"
    assert browser.run(f"{place}.top >= document.querySelector('nav').offsetHeight")
    assert browser.run(f"{place}.bottom <= innerHeight")


@pytest.mark.parametrize("width", [360, 390, 1280])
def test_nothing_is_wider_than_the_window(browser, page, width):
    browser.open(page, width=width)
    assert browser.run("document.documentElement.scrollWidth") <= width
    narrow = browser.run("document.querySelector('.chart .narrow').checkVisibility()")
    assert narrow == (width < 880)


@pytest.mark.parametrize("width", [700, 1000, 1280])
def test_the_contents_are_seen_whole_where_there_is_room(browser, page, width):
    browser.open(page, width=width)
    hidden = "each.scrollWidth - each.clientWidth + each.scrollHeight - each.clientHeight"
    assert browser.run(f"((each) => {hidden})(document.querySelector('nav ul'))") == 0
    assert browser.run("document.querySelector('nav').offsetHeight") < 100


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_paper(browser, page, scheme):
    browser.open(page, scheme=scheme)
    browser.run("document.querySelectorAll('details').forEach((each) => { each.open = true })")
    assert browser.run(CONTRAST) >= 4.5
    figure = "document.querySelector('.chart .wide [style*=\"fill: var(--ink)\"]')"
    ink, paper = (
        browser.run(f"{color}.match(/\\d+/g).map(Number)")
        for color in (
            f"getComputedStyle({figure}).fill",
            "getComputedStyle(document.body).backgroundColor",
        )
    )
    assert (max(paper) < 64 and min(ink) > 192) == (scheme == "dark")
    assert (min(paper) > 192 and max(ink) < 64) == (scheme == "light")


def test_every_control_is_reached_by_tab(browser, page):
    browser.open(page)
    reached = set()
    for _ in range(60):
        browser.press("Tab", 9)
        reached.add(browser.run("document.activeElement.dataset.control || ''"))
    assert {"stop", "plane", "class"} <= reached


def test_print_shows_a_strip_of_the_times_in_place_of_the_slider(browser, page):
    browser.open(page, scheme="dark")
    browser.media("print", "dark")
    assert not browser.run(f"{SLIDER}.checkVisibility()")
    strips = "[...document.querySelectorAll('.strip')].filter((each) => each.checkVisibility())"
    assert browser.run(f"{strips}.length") == 2
    assert browser.run(f"{strips}[0].querySelectorAll('svg').length") == 4
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.run(CONTRAST) >= 4.5
    assert browser.image("Page.printToPDF").startswith(b"%PDF")


@pytest.fixture(scope="module")
def page_of_signals(make_run, tmp_path_factory):
    """A page with one strip of two images, which takes the lowest value at the last time."""
    folder = make_run(tmp_path_factory.mktemp("signals") / "run")
    run = {"task": "mitbih", "model": "s4d", "training": "digital", "case": "p0", "patient": "p0"}
    seconds = [0.01 * step for step in range(300)]
    signals = [{**run, "channel": "II", "second": s, "value": s % 1} for s in seconds]
    images = [
        {
            **run, "hardware": "pcm", "place": "worst", "second": second, "reference": "N",
            "class": "N", "time_s": time_s, "probability": p, "least": p, "largest": p,
            "n_chips": 2,
        }
        for time_s, p in ((None, 0.9), (0.0, 0.8), (86_400.0, 0.4))
        for second in (1.0, 2.0)
    ]  # fmt: skip
    STRIP_SIGNALS.write(STRIP_SIGNALS.frame(signals), folder)
    STRIP_IMAGES.write(STRIP_IMAGES.frame(images), folder)
    return write_report([folder])[0]


STRIP_SLIDER = "document.querySelector('.aging input[type=range]')"
PALE = """
[...new Set([...document.querySelectorAll(".aging .pale")].map((e) => e.id.match(/stop\\d/)[0]))]
"""


@pytest.mark.parametrize("width", [390, 1280])
def test_the_slider_emphasises_one_time_of_a_signal(browser, page_of_signals, width):
    browser.open(page_of_signals, width=width)
    assert browser.run("document.documentElement.scrollWidth") <= width
    value = "document.querySelector('.aging .value').textContent"
    assert (browser.run(value), browser.run(PALE)) == ("0.40", ["stop1"])
    browser.run(f"{STRIP_SLIDER}.focus()")
    browser.press("ArrowLeft", 37)
    assert (browser.run(value), browser.run(PALE)) == ("0.80", ["stop2"])
    status = "document.querySelector('.aging [role=status]').textContent"
    assert browser.run(status) == "t0. worst case: Digitally trained S4D 0.80"
    browser.press("ArrowLeft", 37)
    assert (browser.run(value), browser.run(PALE)) == ("0.90", ["stop1", "stop2"])
    browser.media("print")
    assert not browser.run(f"{STRIP_SLIDER}.checkVisibility()")
    opacity = "getComputedStyle(document.querySelector('.aging .pale')).opacity"
    assert browser.run(opacity) == "1"
    assert browser.complaints == []


def test_print_shows_both_trainings_of_one_model(browser, page_of_models):
    browser.open(page_of_models)
    browser.media("print")
    strips = "[...document.querySelectorAll('.strip p')].map((each) => each.textContent)"
    assert browser.run(strips) == ["Digitally trained U-Net", "Hardware-aware U-Net"]


def test_without_a_script_the_first_picture_is_there(browser, page):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        assert browser.run(OUTLINE).startswith("M")
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
