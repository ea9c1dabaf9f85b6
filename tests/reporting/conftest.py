import shutil

import pytest
from playwright.sync_api import sync_playwright


@pytest.fixture(scope="session")
def browser():
    """The system's Chromium, headless."""
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("Chromium is not installed, so no page can be opened: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()
