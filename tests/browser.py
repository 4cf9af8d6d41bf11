"""A real browser without a window: Chromium and its driver, as the system's package manager installs them."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

NAMES = (("chromium", "chromium-browser", "google-chrome"), ("chromedriver",))
FLAGS = (
    *("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking"),
    *("disable-component-update", "disable-sync", "disable-dev-shm-usage", "window-size=1280,1000"),
)


def find_programs() -> tuple[str, str]:
    """Return the browser and its driver; the test fails where one is missing, with what installs them."""
    found = [next(filter(None, map(shutil.which, names)), None) for names in NAMES]
    if None in found:
        pytest.fail("the page is tested in a browser: apt install chromium chromium-driver", pytrace=False)
    browser, driver = found
    return browser, driver


@contextmanager
def browse(profile: Path) -> Iterator[Chrome]:
    """Yield the browser with a new profile in ``profile``."""
    program, driver = find_programs()
    options = ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"user-data-dir={profile}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # With the driver named, selenium looks for none and fetches none.
    browser = Chrome(options=options, service=Service(driver))
    try:
        yield browser
    finally:
        browser.quit()
