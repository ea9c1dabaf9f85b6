import shutil

import pytest
from playwright.sync_api import sync_playwright


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium, headless.  Of one module: while it is open, no other test in this
    process can run an event loop.
    """
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("Chromium is not installed, so no page can be opened: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()
