"""The page in a real browser, over the real client and the Hub of the tests."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from ftt_hub.cli.browse import command
from hub_fixtures import connect
from hub_server import HubServer
from huggingface_hub import close_session, constants
from web_fixtures import (
    LAYERS,
    TARGET,
    Models,
    make_models,
    page_of,
    page_within,
    playwright,
    publish_all,
    web_environment,
)

import ftt_hub
from ftt_hub.artifact.card_editing import split_card
from ftt_hub.errors import FttError, MissingExtraError
from ftt_hub.web import server as web_server
from ftt_hub.web.page import Browser
from ftt_hub.web.selection import Selection
from ftt_hub.web.shelf import Shelf

if TYPE_CHECKING:
    from playwright.sync_api import Browser as Chromium
    from playwright.sync_api import BrowserContext, Page

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

playwright.expect.set_options(timeout=15_000)
SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
SHOWN = ".ftt-list, .ftt-adapter, .ftt-panel"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def hub(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    root = tmp_path_factory.mktemp("page")
    with HubServer(root / "hub") as server, pytest.MonkeyPatch.context() as patch:
        connect(server, root / "hf-home", patch)
        publish_all(server, models)
        yield server
        close_session()


@pytest.fixture(scope="module")
def site(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with page_of(web_environment(hub, tmp_path_factory.mktemp("visitor"))) as address:
        yield address


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("the tests of the page need a browser: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = driver.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


class Visitor:
    """A browser window that notes every request and every error of the page's scripts."""

    def __init__(self, context: BrowserContext, site: str) -> None:
        self.site, self.page = site, context.new_page()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, query: str = "") -> Page:
        """Open an address, and wait until something is shown."""
        self.page.goto(self.site + query)
        self.page.wait_for_selector(SHOWN)
        return self.page

    def names(self) -> list[str]:
        """Adapters of the list."""
        return self.page.locator(".ftt-name a").all_inner_texts()

    def expect_names(self, *names: str) -> None:
        """Fail unless exactly these come to be listed."""
        links = self.page.locator(".ftt-name a")
        playwright.expect(links).to_have_text(list(names))

    def shot(self, name: str) -> None:
        """Keep a picture for people to look at."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png", full_page=True)

    def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))

    def abroad(self) -> list[str]:
        """Requests that went to anybody else."""
        return [url for url in self.requests if not url.startswith((self.site, "data:", "blob:"))]


@pytest.fixture
def visitor(chromium: Chromium, site: str, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    options = getattr(request, "param", {})
    context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    context.set_default_timeout(15_000)
    visitor = Visitor(context, site)
    yield visitor
    context.close()
    assert not visitor.errors
    assert not visitor.abroad()


PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DARK = {"color_scheme": "dark"}


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option).first.click()


def test_filters_narrow_the_list_and_the_address_keeps_them(visitor: Visitor) -> None:
    page = visitor.open()
    visitor.expect_names("lab/wide-sw", "org/llama-de", "org/llama-math", "org/llama-tr")
    visitor.shot("list")
    choose(page, "Language", "tr")
    visitor.expect_names("lab/wide-sw", "org/llama-tr")
    choose(page, "Source base", "org/base-v1")
    visitor.expect_names("org/llama-tr")
    assert page.url.endswith("?language=tr&source_base=org%2Fbase-v1")
    visitor.open("?language=tr&source_base=org%2Fbase-v1")
    visitor.expect_names("org/llama-tr")
    assert page.get_by_label("Source base", exact=True).input_value().startswith("org/base-v1")


@pytest.mark.slow
def test_every_filter_finds_what_it_names(visitor: Visitor) -> None:
    page = visitor.open()
    choose(page, "Training data", "org/german-chat")
    visitor.expect_names("org/llama-de")
    choose(page, "Training data", "Any dataset")
    choose(page, "Licence", "apache-2.0")
    visitor.expect_names("org/llama-math", "org/llama-tr")
    page.get_by_label("Search", exact=True).fill("arith")
    visitor.expect_names("org/llama-math")
    visitor.open("?sort=downloads")
    visitor.expect_names("org/llama-tr", "org/llama-de", "lab/wide-sw", "org/llama-math")
    assert page.locator(".ftt-name a").count() == 4


def test_a_target_colours_the_rows_with_reasons(visitor: Visitor) -> None:
    page = visitor.open()
    page.get_by_label("Target model").fill(TARGET)
    page.get_by_label("Target model").press("Enter")
    page.wait_for_selector(".ftt-fit")
    rows = page.locator(".ftt-list tbody tr")
    assert [row.get_attribute("class") for row in rows.all()] == [
        "ftt-rejected",
        "ftt-accepted",
        "ftt-accepted",
        "ftt-accepted",
    ]
    assert rows.first.get_by_text("Not compatible").is_visible()
    assert "[128, 32] in the adapter" in rows.first.inner_text()
    colours = {row.evaluate("r => getComputedStyle(r).backgroundColor") for row in rows.all()}
    assert len(colours) == 2
    visitor.shot("target")


def test_a_target_that_cannot_be_read_is_told_and_the_list_stays(visitor: Visitor) -> None:
    page = visitor.open("?target=org/nothing")
    assert "no such repository" in page.get_by_role("alert").inner_text()
    visitor.expect_names("lab/wide-sw", "org/llama-de", "org/llama-math", "org/llama-tr")
    visitor.shot("bad-target")


def test_an_adapter_has_a_page_with_all_that_is_known(visitor: Visitor) -> None:
    page = visitor.open(f"?target={TARGET}")
    page.get_by_role("link", name="org/llama-tr").click()
    page.wait_for_selector(".ftt-adapter")
    page.wait_for_function("document.title.startsWith('org/llama-tr')")
    text = page.locator(".ftt-adapter").inner_text()
    for part in (
        "v1.2.0",
        "bit for bit",
        "Perplexity",
        "17.04",
        "apache-2.0",
        "org/turkish-chat",
        "compatible <b>x</b>",
        "Lin et al. 2025",
    ):
        assert part in text, part
    assert "org/other-version" not in text
    assert page.get_by_role("heading", name=f"Compatible with {TARGET}").is_visible()
    cells = page.locator(".ftt-heat tbody td").all_inner_texts()
    assert len(cells) == 9 * LAYERS
    assert len(page.locator(".ftt-heat thead th").all()) == 10
    assert max(float(cell) for cell in cells) > 0.5
    assert "On average layer 6 changed most" in text
    visitor.shot("adapter")


@pytest.mark.slow
def test_versions_and_deprecations_are_shown(visitor: Visitor) -> None:
    page = visitor.open("?adapter=org/llama-tr")
    page.get_by_role("link", name="v1.1.0").click()
    note = page.get_by_role("note")
    note.wait_for()
    assert "trained on arithmetic by mistake" in note.inner_text()
    assert "org/arithmetic" in page.locator("aside").inner_text()
    visitor.shot("deprecated")
    visitor.open("?adapter=org/llama-tr&version=9.9.9")
    assert "no such version" in page.get_by_role("alert").inner_text()


@pytest.mark.parametrize(
    "visitor", [{"permissions": ["clipboard-read", "clipboard-write"]}], indirect=True
)
def test_the_copy_button_copies(visitor: Visitor) -> None:
    page = visitor.open(f"?adapter=org/llama-tr&target={TARGET}")
    page.get_by_role("button", name="Copy Python").click()
    page.get_by_text("Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    compile(copied, "copied", "exec")
    assert f'"org/llama-tr",\n    revision="v1.2.0",\n    base_model="{TARGET}"' in copied


def focused(page: Page) -> str:
    return str(
        page.evaluate("(document.activeElement.ariaLabel || document.activeElement.innerText)")
    )


def test_the_keyboard_is_enough(visitor: Visitor) -> None:
    page = visitor.open()
    labels = []
    for _ in range(12):
        page.keyboard.press("Tab")
        labels.append(focused(page))
        if labels[-1] == "lab/wide-sw":
            break
    assert labels[0].startswith("ftt-hub")
    assert labels[-1] == "lab/wide-sw", labels
    outline = page.locator(".ftt-list tbody tr").first.evaluate("r => getComputedStyle(r).outline")
    assert "solid 2px" in outline
    page.wait_for_timeout(400)  # the lists of the fields passed by fade out
    assert not any(option.is_visible() for option in page.get_by_role("option").all())
    visitor.shot("keyboard")
    page.keyboard.press("Enter")
    page.wait_for_selector(".ftt-adapter")
    for _ in range(8):
        page.keyboard.press("Tab")
        if focused(page) == "Copy Python":
            break
    assert focused(page) == "Copy Python"
    page.keyboard.press("Enter")
    page.get_by_text("Copied").or_(page.get_by_text("Press Ctrl-C")).wait_for()
    visitor.open()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("llama-d")
    visitor.expect_names("org/llama-de")
    hint = page.get_by_text("Name, base, language, data")
    playwright.expect(hint).to_be_visible()  # hints stay when something is typed


@pytest.mark.parametrize("visitor", [PHONE], indirect=True)
def test_a_phone_shows_everything_without_scrolling_sideways(visitor: Visitor) -> None:
    for name, query in (
        ("phone-list", f"?target={TARGET}"),
        ("phone-adapter", f"?adapter=org/llama-tr&target={TARGET}"),
        ("phone-hostile", "?adapter=lab/wide-sw"),
        ("phone-empty", "?language=xx"),
    ):
        page = visitor.open(query)
        visitor.shot(name)
        assert visitor.overflow() <= 0, name
        small = page.evaluate(
            "[...document.querySelectorAll('#ftt-found :is(p, td, dd, li, a, button)')]"
            ".filter(e => e.innerText && parseFloat(getComputedStyle(e).fontSize) < 11).length"
        )
        assert small == 0, name


CONTRASTS = """
selectors => {
  const numbers = c => c.match(/[\\d.]+/g).map(Number);
  const parse = c => { const m = numbers(c); return [m[0], m[1], m[2], m[3] ?? 1] };
  const ground = e => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c[3] === 1) return c;
    }
    return [255, 255, 255, 1];
  };
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => { v /= 255;
    return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4 });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b };
  return selectors.flatMap(s => [...document.querySelectorAll(s)].slice(0, 5).map(e => {
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))];
    return [s, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
  }));
}
"""


@pytest.mark.slow
@pytest.mark.parametrize("visitor", [{}, DARK], ids=["light", "dark"], indirect=True)
def test_text_is_legible_in_both_modes(visitor: Visitor, request: pytest.FixtureRequest) -> None:
    mode = request.node.callspec.id
    selectors = [
        ".ftt-sub",
        ".ftt-badge",
        ".ftt-reason",
        ".ftt-list td",
        ".ftt-name a",
        ".ftt-lead",
        ".ftt-facts dt",
        ".ftt-facts dd",
        ".ftt-small",
        ".ftt-panel li",
        ".ftt-tag",
        "#ftt-found a",
        "pre code",
        ".ftt-copy",
        ".ftt-count",
        "h1",
        "h2",
        ".ftt-header p",
        "#ftt-filters label span",
        "#ftt-search label *",
    ]
    for query in (f"?target={TARGET}", f"?adapter=org/llama-tr&version=1.1.0&target={TARGET}"):
        page = visitor.open(query)
        found = page.evaluate(CONTRASTS, selectors)
        assert len(found) > 20
        assert [(s, round(ratio, 2)) for s, ratio in found if ratio < 4.5] == []
        visitor.shot(f"{mode}-{'adapter' if 'adapter' in query else 'list'}")


def test_a_hostile_card_is_text(visitor: Visitor) -> None:
    page = visitor.open("?adapter=lab/wide-sw")
    visitor.shot("hostile")
    page.wait_for_timeout(300)
    assert page.evaluate("window.pwned") is None
    card = page.locator(".ftt-card")
    assert card.locator("script, img, svg, iframe, b, [onerror], [onload]").count() == 0
    assert "<script>window.pwned" in card.inner_text()
    links = card.locator("a").evaluate_all("all => all.map(a => [a.protocol, a.rel])")
    assert links == [["https:", "noopener noreferrer nofollow ugc"]]


def test_hostile_names_and_addresses_are_text(visitor: Visitor) -> None:
    page = visitor.open("?adapter=%3Cimg%20src=x%20onerror=window.pwned=1%3E")
    assert "not an adapter" in page.get_by_role("alert").inner_text()
    visitor.open('?search="><img src=x onerror=window.pwned=1>&page=-1&p=-1&sort=x&language=<b>')
    assert page.locator(".ftt-empty").get_by_text("No adapter matches").is_visible()
    visitor.open("?target=<img src=x onerror=window.pwned=1>")
    page.wait_for_timeout(200)
    assert page.evaluate("window.pwned") is None
    assert page.locator("#ftt-found img").count() == 0


def test_the_browser_is_told_to_load_nothing_from_elsewhere(visitor: Visitor, site: str) -> None:
    with urllib.request.urlopen(site, timeout=10) as answer:
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["referrer-policy"] == "no-referrer"
    page = visitor.open()
    blocked = page.evaluate(
        "fetch('https://example.com/', {mode: 'no-cors'}).then(() => 'sent', () => 'blocked')"
    )
    visitor.requests.clear()  # the one that was blocked
    assert blocked == "blocked"


@pytest.mark.parametrize("path", ["gradio_api/upload", "gradio_api/file=/etc/passwd", "upload"])
def test_what_the_page_needs_not_is_closed(site: str, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404") as raised:
        urllib.request.urlopen(site + path, timeout=10)
    raised.value.close()


def test_other_host_names_are_not_served(site: str) -> None:
    asked = urllib.request.Request(site, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="421") as raised:
        urllib.request.urlopen(asked, timeout=10)
    raised.value.close()


@pytest.mark.slow
def test_a_registry_that_does_not_answer_is_told_and_can_be_tried_again(
    hub: HubServer, chromium: Chromium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with page_within("hf") as site:
        visitor = Visitor(chromium.new_context(), site)
        page = visitor.open()
        alert = page.get_by_role("alert")
        assert "The registry does not answer" in alert.inner_text()
        visitor.shot("server-down")
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        page.get_by_role("button", name="Try again").click()
        page.wait_for_selector(".ftt-list")
        page.context.close()


def test_a_folder_is_a_registry_too_and_an_empty_one_says_what_to_do(
    hub: HubServer, chromium: Chromium, tmp_path: Path, models: Models
) -> None:
    shelf = str(tmp_path / "shelf")
    with page_within(shelf) as site:
        visitor = Visitor(chromium.new_context(), site)
        page = visitor.open()
        assert "No adapter here yet" in page.locator(".ftt-empty").inner_text()
        assert page.get_by_role("button", name="Copy").is_visible()
        visitor.shot("empty")
        page.context.close()
        assert not visitor.abroad()
    ftt_hub.publish(models.adapters["llama-tr"], "org/llama-tr", version="1.0.0", registry=shelf)
    browser = Browser(Shelf(shelf), folders=True)
    assert "With warnings" not in browser.results(Selection(target=str(models.target)))
    assert "Compatible" in browser.adapter("org/llama-tr", "", str(models.target))


def test_where_strangers_come_a_target_is_no_folder(hub: HubServer, tmp_path: Path) -> None:
    browser = Browser(Shelf(None), folders=False)
    for target in (str(tmp_path), "/etc", "..", "~"):
        assert "not a model on the Hub" in browser.results(Selection(target=target)), target
        assert "not a model on the Hub" in browser.adapter("org/llama-tr", "", target)


def test_a_listing_is_asked_for_once_for_many_visitors(hub: HubServer) -> None:
    hub.requests.clear()
    browser = Browser(Shelf("hf"), folders=False)
    for language in ("tr", "de", "en"):
        assert "org/llama" in browser.results(Selection(language=language))
    assert len(hub.requests.where("GET", "/api/models")) == 1


def test_without_the_extra_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ftt-hub\[web\]'"):
        web_server.serve(port=0)


def test_a_port_in_use_is_told() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(FttError, match="Choose another port with --port"),
    ):
        web_server.serve(port=taken.getsockname()[1])


def test_options_of_the_page_need_the_page() -> None:
    assert CliRunner().invoke(command, ["--port", "1"]).exit_code == 2
    assert CliRunner().invoke(command, ["--web", "--json"]).exit_code == 2


SPACE = Path(__file__).parents[2] / "examples" / "space"


@pytest.mark.slow
def test_the_space_starts_as_spaces_start_it(hub: HubServer, tmp_path: Path) -> None:
    front, _ = split_card((SPACE / "README.md").read_bytes())
    assert front["sdk"] == "gradio"
    assert front["sdk_version"].split(".")[0] == version("gradio").split(".")[0]
    assert (SPACE / "requirements.txt").read_text().strip() == "ftt-hub[web]"
    home = Path(shutil.copytree(SPACE, tmp_path / "app"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    variables = web_environment(hub, tmp_path) | {
        "GRADIO_SERVER_NAME": "0.0.0.0",
        "GRADIO_SERVER_PORT": str(port),
        "SYSTEM": "spaces",
        "SPACE_ID": "org/ftt-hub",
        "PYTHONUNBUFFERED": "1",
    }
    with subprocess.Popen(
        [sys.executable, str(front["app_file"])],
        cwd=home,
        env=variables,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            assert str(port) in process.stdout.readline()
            proxied = {"Host": "org-ftt-hub.hf.space", "X-Forwarded-Proto": "https"}
            asked = urllib.request.Request(f"http://127.0.0.1:{port}/", headers=proxied)
            with urllib.request.urlopen(asked, timeout=20) as answer:
                page = answer.read().decode()
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=20)
    assert "Transfer adapters" in page
    assert '"root":"https://org-ftt-hub.hf.space"' in page.replace(": ", ":")
    assert "Traceback" not in errors
