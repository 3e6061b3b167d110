"""The page, driven in a real browser; skipped without playwright and Debian's chromium.

LUSHAN_AXE names axe.min.js (npm install axe-core); without it only the check by axe is skipped.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lushan.models.zoo import bundled_folder
from lushan.serve.guard import ApiKeys
from lushan.serve.limits import MIB, Limits
from serve.conftest import Client, serving

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

CHROMIUM = Path("/usr/bin/chromium")
AXE = os.environ.get("LUSHAN_AXE", "")
SECONDS = 60  # the machine may be busy
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not installed")


@dataclass
class Browser:
    """A browser and the service it looks at."""

    chromium: Any
    client: Client
    problems: list[str] = field(default_factory=list)

    @contextmanager
    def open(self, **options: Any) -> Iterator[Any]:
        """Open the page in a context of its own; whatever the console says is a problem."""
        context = self.chromium.new_context(**{"locale": "en-GB", **options})
        context.set_default_timeout(1e3 * SECONDS)
        context.on("console", lambda message: self.problems.append(message.text))
        context.on("weberror", lambda error: self.problems.append(str(error.error)))
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{self.client.port}/")
        yield page
        context.close()
        assert self.problems == []


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    expect.set_options(timeout=1e3 * SECONDS)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            args=[
                "--no-sandbox",
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def service(model_folder: Path) -> Iterator[Client]:
    models = ("small", model_folder), ("default", bundled_folder("default"))
    with serving(*models, limits=Limits(max_body=1 * MIB)) as running:
        yield running


@pytest.fixture
def browser(chromium: Any, service: Client) -> Browser:
    return Browser(chromium, service)


def picture(data: bytes, name: str = "a.png") -> dict[str, Any]:
    return {"name": name, "mimeType": "image/png", "buffer": data}


def answered(page: Any, count: int = 1) -> None:
    expect(page.locator(".bars")).to_have_count(count)


def test_several_pictures_and_where_a_class_was_seen(browser: Browser, files: list[bytes]) -> None:
    with browser.open() as page:
        page.set_input_files("#files", [picture(files[0]), picture(files[2], "b.png")])
        answered(page, 2)
        first = page.locator(".card").first
        expect(first.locator(".bars li")).to_have_count(3)
        first.get_by_role("button", name="Where it looked").click()
        expect(first.get_by_role("img", name="Heat map")).to_be_visible()
        expect(first.get_by_role("button", name="Where it looked")).to_be_focused()
        other = first.locator(".bars button").nth(1)
        other.click()
        expect(other).to_have_attribute("aria-pressed", "true")
        other.click()
        expect(first.locator("canvas")).to_have_count(0)
        first.get_by_role("button", name="Remove a.png").click()
        expect(page.locator(".card")).to_have_count(1)


def test_paste_and_drop(browser: Browser, files: list[bytes]) -> None:
    script = """(element, [data, kind]) => {
        const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
        element.dispatchEvent(kind === "paste"
            ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true })
            : new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }"""
    with browser.open(bypass_csp=True) as page:  # scripts of the test are not the page's
        data = base64.b64encode(files[0]).decode()
        page.locator("#main").evaluate(script, [data, "paste"])
        answered(page)
        expect(page.locator(".card .file")).to_have_text("Pasted picture")
        page.locator("#main").evaluate(script, [data, "drop"])
        answered(page, 2)
        expect(page.locator(".card .file").first).to_have_text("dropped.png")


def test_camera(browser: Browser) -> None:
    with browser.open(permissions=["camera"]) as page:
        page.get_by_role("button", name="Take a picture").click()
        expect(page.locator("#camera-dialog")).to_be_visible()
        page.wait_for_timeout(1000)  # the first frame
        page.get_by_role("button", name="Take it").click()
        answered(page)
        expect(page.locator("#camera-dialog")).to_be_hidden()


def test_errors_are_told(browser: Browser, files: list[bytes]) -> None:
    with browser.open() as page:
        page.set_input_files("#files", [picture(b"no picture", "no.txt")])
        expect(page.locator(".card .wrong")).to_have_text("This is not a picture that can be read.")
        page.set_input_files("#files", [picture(bytes(2 * MIB), "large.png")])
        expect(page.locator(".card .wrong").first).to_contain_text("This is too large: at most 1")
        page.context.set_offline(True)
        page.set_input_files("#files", [picture(files[0])])
        expect(page.locator(".card .wrong").first).to_contain_text("You are offline")
        page.context.set_offline(False)
        page.get_by_role("button", name="Try again").first.click()
        answered(page)
        # What the browser itself says of an answer that is no 200.
        assert all("Failed to load resource" in problem for problem in browser.problems)
        browser.problems.clear()


def test_a_busy_service_is_asked_again(browser: Browser, files: list[bytes]) -> None:
    with browser.open() as page:
        left = [2]

        def refuse(route: Any) -> None:
            left[0] -= 1
            if left[0] < 0:
                route.continue_()
                return
            route.fulfill(status=503, headers={"Retry-After": "1"}, json={"kind": "busy"})

        page.route("**/v1/classify*", refuse)
        page.set_input_files("#files", [picture(files[0])])
        expect(page.locator(".card .wait")).to_contain_text("Trying again in")
        answered(page)
        assert all("503" in problem for problem in browser.problems)
        browser.problems.clear()


def test_languages_colours_and_history(browser: Browser, files: list[bytes]) -> None:
    with browser.open(locale="zh-CN", color_scheme="dark") as page:
        expect(page.get_by_role("heading", level=1)).to_have_text("图里是什么？")
        page.get_by_label("模型").select_option("default")
        page.set_input_files("#files", [picture(files[0])])
        answered(page)
        chinese = page.locator(".bars .name").first.text_content()
        page.get_by_role("button", name="English").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("What is in the picture?")
        expect(page.locator(".bars .name").first).not_to_have_text(chinese)
        assert (page.locator(".bars .name").first.text_content() or "").isascii()
        page.get_by_label("Colours").select_option("light")
        page.reload()
        expect(page.locator("html")).to_have_attribute("data-theme", "light")
        expect(page.get_by_role("heading", level=1)).to_have_text("What is in the picture?")
        expect(page.locator("#history li")).to_have_count(1)
        page.get_by_role("button", name="Clear history").click()
        expect(page.locator("#history-section")).to_be_hidden()
        page.reload()
        expect(page.locator("#facts")).to_contain_text("knows")
        expect(page.locator("#history-section")).to_be_hidden()


def test_the_tour_of_that_picture(browser: Browser, files: list[bytes]) -> None:
    with browser.open() as page:
        page.set_input_files("#files", [picture(files[0])])
        answered(page)
        with page.context.expect_page() as opened:
            page.get_by_role("link", name="Show me how").click()
        tour = opened.value
        expect(tour.get_by_role("heading", level=1)).to_be_visible()
        expect(tour.locator("html")).to_have_attribute("lang", "en")
        assert tour.evaluate("self.origin") == "null"  # it cannot use the service


def test_one_number_opened(browser: Browser, files: list[bytes]) -> None:
    with browser.open() as page:
        page.set_input_files("#files", [picture(files[0])])
        answered(page)
        page.get_by_text("Open one number").click()
        page.get_by_label("Layer").select_option("fc")
        expect(page.get_by_label("Row", exact=True)).to_be_disabled()
        page.get_by_label("Channel").fill("2")
        page.get_by_role("button", name="Open", exact=True).click()
        expect(page.locator(".sum dd")).to_have_count(5)
        expect(page.locator("tbody tr")).to_have_count(8)


def test_the_key_is_asked_for(chromium: Any, model_folder: Path, files: list[bytes]) -> None:
    keys = ApiKeys(["0123456789abcdef"])
    with serving(("small", model_folder), keys=keys, limits=Limits()) as client:
        browser = Browser(chromium, client)
        with browser.open() as page:
            page.get_by_label("Key", exact=True).fill("wrong")
            page.get_by_role("button", name="Use it").click()
            expect(page.get_by_text("This key is not right.")).to_be_visible()
            page.get_by_label("Key", exact=True).fill("0123456789abcdef")
            page.keyboard.press("Enter")
            expect(page.locator("#facts")).to_contain_text("small knows 3 things")
            page.set_input_files("#files", [picture(files[0])])
            answered(page)
            page.get_by_role("button", name="Where it looked").click()
            expect(page.get_by_role("img", name="Heat map")).to_be_visible()
            assert all("401" in problem for problem in browser.problems)
            browser.problems.clear()


def test_by_keyboard_alone(browser: Browser, files: list[bytes]) -> None:
    with browser.open() as page:
        page.wait_for_load_state("networkidle")  # a key pressed before the scripts run is lost
        with page.expect_file_chooser() as chooser:  # the browser hears of it later
            page.keyboard.press("Tab")
            expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
            page.keyboard.press("Enter")
            expect(page.locator("#main")).to_be_focused()
            page.keyboard.press("Tab")
            expect(page.get_by_role("button", name="Choose pictures")).to_be_focused()
            page.keyboard.press("Enter")
        chooser.value.set_files([picture(files[0])])
        answered(page)
        expect(page.get_by_role("status")).to_contain_text("a.png: ")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_accessibility_and_fit(
    browser: Browser, files: list[bytes], scheme: str, width: int
) -> None:
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 844}}
    with browser.open(**options, bypass_csp=True) as page:
        page.set_input_files("#files", [picture(files[0]), picture(b"no", "no.txt")])
        answered(page)
        expect(page.locator(".card .wrong")).to_be_visible()
        browser.problems.clear()
        page.get_by_role("button", name="Where it looked").click()
        expect(page.get_by_role("img", name="Heat map")).to_be_visible()
        page.get_by_text("Open one number").click()
        page.get_by_role("button", name="Open", exact=True).click()
        expect(page.locator("tbody tr").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if not AXE:
            pytest.skip("LUSHAN_AXE does not name axe.min.js")
        page.evaluate(Path(AXE).read_text(encoding="utf-8"))
        found = page.evaluate("axe.run()")
        assert found["passes"]
        serious = [
            (one["id"], [node["html"] for node in one["nodes"]])
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == []
