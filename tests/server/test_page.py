"""``GET /`` in a real browser: what a person sees of a server that starts, works, refuses and goes away."""

import re

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.server.recent import MAX_ERRORS, RecentErrors
from tests.browser import browse
from tests.served import ECHO, Served, with_echo

SECONDS = 30
FOREIGN = re.compile(r"https?://(?!www\.w3\.org/2000/svg)")


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    with browse(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(opened):
    """The browser, with no word of the test before."""
    opened.get("about:blank")
    opened.get_log("browser")
    return opened


def text_of(browser, name):
    return browser.find_element(By.ID, name).text


def wait_for(browser, name, pattern):
    """Wait until the text of an element matches; returns it."""

    def matches(browser):
        return re.search(pattern, text_of(browser, name), flags=re.DOTALL)

    return WebDriverWait(browser, SECONDS, 0.05).until(matches, f"{name} never matched {pattern!r}")[0]


def num_texts(browser):
    """Return what the column of texts adds up to."""
    cells = "return [...document.querySelectorAll('#programs td:nth-child(5)')].map(cell => cell.textContent)"
    return sum(int(text.replace(",", "")) for text in browser.execute_script(cells))


def problems(browser):
    return [entry["message"] for entry in browser.get_log("browser")]


def test_the_page_shows_plan_programs_load_and_errors_as_they_come(served_tiny, browser):
    browser.get(served_tiny.url)
    wait_for(browser, "state", "^ready$")
    assert browser.title == f"{text_of(browser, 'model')} | sendnn_pipeline"
    assert "BertModel, float32, backend eager" in text_of(browser, "about")
    assert re.search(r"dtype float32 \(.*model\.dtype=float32\)", text_of(browser, "plan"))
    assert re.search(r"load [\d.]+ m?s.*Programs through compile 3 of 3", text_of(browser, "startup"), flags=re.DOTALL)
    programs = text_of(browser, "programs")
    for name in ("pool[batch=1,len=16]", "pool[batch=4,len=16]", "pool[batch=4,len=48]"):
        assert re.search(rf"{re.escape(name)} .*, compiled [\d.< ]+m?s [\d,]+ [\d,]+", programs), programs
    before = num_texts(browser)
    served_tiny.client().embeddings.create(model=text_of(browser, "model"), input=["hello world"] * 7)
    WebDriverWait(browser, SECONDS, 0.05).until(lambda browser: num_texts(browser) == before + 7)
    wait_for(browser, "tokens", r"^[1-9][\d,]* tokens/s$")
    wait_for(browser, "p50", r"^(< 1 ms|[\d.]+ m?s)$")
    wait_for(browser, "padding", r"^[\d.]+ %$")
    assert re.search(r"since the start [\d.]+ %", text_of(browser, "padded"))
    assert text_of(browser, "waiting") == "0 waiting" and "room for 4,096 texts" in text_of(browser, "queue")
    WebDriverWait(browser, SECONDS, 0.05).until(
        lambda browser: browser.find_elements(By.CSS_SELECTOR, "#spark polyline")
    )
    assert problems(browser) == []


def test_what_a_client_sent_is_shown_as_text_and_counted(served_tiny, browser):
    browser.get(served_tiny.url)
    for _ in range(3):
        served_tiny.post("/v1/embeddings", json={"input": "hello", "model": "<img src=x onerror=alert(1)>"})
    row = wait_for(browser, "errors", r"3 404 /v1/embeddings no model <img src=x onerror=alert\(1\)>")
    assert row and not browser.find_elements(By.CSS_SELECTOR, "#errors img")
    assert problems(browser) == []


def test_everything_it_loads_is_the_server_s_own(served_tiny, browser):
    answer = served_tiny.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert not FOREIGN.search(answer.text)
    browser.get(served_tiny.url)
    wait_for(browser, "state", "^ready$")
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert {name.removeprefix(served_tiny.url) for name in loaded} == {"/info", "/metrics"}


def test_a_browser_in_the_dark_gets_light_text_on_a_dark_page(served_tiny, browser):
    browser.get(served_tiny.url)
    bright = {}
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        style = "const style = getComputedStyle(document.body); return [style.color, style.backgroundColor]"
        colours = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in browser.execute_script(style)]
        bright[scheme] = colours[0] > colours[1]
    assert bright == {"light": False, "dark": True}


def test_it_follows_a_start_and_says_when_nobody_answers(tiny, browser):
    with Served(*ECHO, f"model.path={tiny}", "engine.hang=warmup", wait=False, **with_echo()) as served:
        served.wait_line("warmup …")
        browser.get(f"http://127.0.0.1:{listening_port(served.process.pid)}/")
        wait_for(browser, "state", r"^starting: trace echo\[batch=1\.\.8\]$")
        served.process.kill()
        wait_for(browser, "state", "^no answer$")


def listening_port(pid):
    import psutil

    (port,) = {each.laddr.port for each in psutil.Process(pid).net_connections("tcp") if each.status == "LISTEN"}
    return port


def test_behind_an_api_key_it_asks_for_it(tiny, browser):
    with Served(*ECHO, f"model.path={tiny}", SENDNN_PIPELINE_API_KEY="secret", **with_echo()) as served:
        assert served.get("/info").status_code == 401
        browser.get(served.url)
        for key, answer in (("wrong", "^the API key is wrong$"), ("secret", "^ready$")):
            wait_for(browser, "state", "API key")
            field = browser.find_element(By.NAME, "key")
            field.clear()
            field.send_keys(key)
            field.submit()
            wait_for(browser, "state", answer)
        assert not browser.find_element(By.ID, "key").is_displayed()
        assert "secret" not in served.get("/").text


def test_it_can_be_left_out(tiny):
    with Served(*ECHO, f"model.path={tiny}", "serve.page=false", **with_echo()) as served:
        answer = served.get("/")
        assert answer.status_code == 404 and answer.json()["error"]["message"].startswith("no route GET /; ")


def test_the_last_errors_are_kept_each_once_the_newest_first():
    recent = RecentErrors()
    for number in (*range(MAX_ERRORS + 5), 10):
        recent.add("/v1/embeddings", RequestError(400, f"error {number}", code="wrong"))
    found = recent.list()
    assert len(found) == MAX_ERRORS
    assert [(entry["message"], entry["count"]) for entry in found[:2]] == [("error 10", 2), ("error 24", 1)]
    assert found[0]["status"] == 400 and found[0]["time"] >= found[1]["time"]
