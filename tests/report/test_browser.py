"""The page in a real browser: Debian's Chromium without a screen, driven by Playwright."""

import re
import shutil

import pytest

from tests.report.conftest import CASES

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
VIEWERS_ARE_BUILT = """() => [...document.querySelectorAll(".viewer")].every(
    (viewer) => viewer.querySelectorAll("canvas").length === 3)"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        # A container's root may not make the sandbox; the page is our own.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def elsewhere(url):
    return [] if url.startswith(("file:", "data:")) else [url]


@pytest.fixture
def opened(browser, built, page):
    """Opens the report; in the end nothing must have gone wrong in it, and nothing been loaded."""
    pages, wrong = [], []

    def open_page(viewport=DESKTOP, **options):
        tab = browser.new_page(viewport=viewport, **options)
        tab.on("console", lambda message: wrong.append(message.text))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("dialog", lambda dialog: wrong.append(dialog.message))
        tab.on(
            "request",
            lambda r: None if r.url.startswith(("file:", "data:")) else wrong.append(r.url),
        )
        tab.goto((built.folder / "report.html").as_uri())
        pages.append(tab)
        tab.wait_for_function(VIEWERS_ARE_BUILT)
        return tab

    yield open_page
    for tab in pages:
        tab.close()
    assert wrong == []


def column(table, number):
    return table.locator(f"tbody tr > :nth-child({number})").all_inner_texts()


def test_click_and_key_sort(opened):
    table = opened().locator("#cases table")
    heading = table.locator("thead th").nth(2)
    assert column(table, 1) == sorted(CASES)

    heading.get_by_role("button").click()
    values = [float(text) for text in column(table, 3)]
    assert values == sorted(values)
    assert values[0] < values[-1]
    assert heading.get_attribute("aria-sort") == "ascending"

    heading.get_by_role("button").press("Enter")
    assert [float(text) for text in column(table, 3)] == values[::-1]
    assert heading.get_attribute("aria-sort") == "descending"

    table.locator("thead th").first.get_by_role("button").click()
    assert column(table, 1)[:2] == ["case.01", "case.02"]
    assert heading.get_attribute("aria-sort") == "none"


def test_undefined_values_stay_last(opened):
    table = opened().locator("#cases table")
    button = table.locator("thead th").nth(7).get_by_role("button")  # tail of the first method

    for _ in range(2):
        button.click()
        texts = column(table, 8)
        assert texts.index("–") == len(texts) - 1
    assert float(texts[0]) > float(texts[-2])


def plane(tab, name):
    return tab.locator(".viewer").first.locator(".plane").filter(has_text=name)


def picture(canvas):
    return canvas.evaluate("canvas => canvas.toDataURL()")


@pytest.mark.parametrize("name", ["Axial", "Coronal", "Sagittal"])
def test_keys_and_wheel_change_the_slice(opened, name):
    tab = opened()
    place = plane(tab, name)
    canvas, output = place.locator("canvas"), place.locator("output")
    canvas.click()
    index, total = map(int, output.inner_text().split(" of "))
    before = picture(canvas)

    tab.keyboard.press("ArrowUp")
    assert output.inner_text() == f"{index + 1} of {total}"
    assert picture(canvas) != before
    tab.keyboard.press("ArrowDown")
    assert picture(canvas) == before
    tab.keyboard.press("End")
    tab.keyboard.press("ArrowUp")
    assert output.inner_text() == f"{total} of {total}"
    tab.keyboard.press("Home")
    assert output.inner_text() == f"1 of {total}"
    tab.mouse.wheel(0, -100)
    sync_api.expect(output).to_have_text(f"2 of {total}")
    place.locator("input").press("ArrowRight")
    assert output.inner_text() == f"3 of {total}"


def test_wheel_scrolls_the_page_past_a_slice_that_was_not_clicked(opened):
    tab = opened()
    place = plane(tab, "Axial")
    canvas, before = place.locator("canvas"), place.locator("output").inner_text()
    # Whether the event is left to the page: real wheels get lost on a busy machine.
    left_to_page = """canvas => canvas.dispatchEvent(
        new WheelEvent("wheel", { deltaY: 200, cancelable: true, bubbles: true }))"""

    assert canvas.evaluate(left_to_page)
    assert place.locator("output").inner_text() == before
    canvas.click()
    assert not canvas.evaluate(left_to_page)
    assert place.locator("output").inner_text() != before


def test_contours_can_be_hidden_and_methods_changed(opened):
    tab = opened()
    viewer = tab.locator(".viewer").first
    canvas = viewer.locator("canvas").first
    shown = {"both": picture(canvas)}
    viewer.locator("select").select_option(index=1)
    shown["other method"] = picture(canvas)
    viewer.get_by_label("prediction", exact=True).uncheck()
    shown["truth"] = picture(canvas)
    viewer.get_by_label("truth").uncheck()
    shown["image"] = picture(canvas)

    assert len(set(shown.values())) == 4


def test_slices_have_the_shape_of_the_body(opened):
    """16 x 18 x 20 voxels of 2 x 1.25 x 1 mm, z y x."""
    sizes = opened().locator(".viewer").first.locator("canvas")
    ratios = sizes.evaluate_all("all => all.map(one => one.width / one.height)")

    assert ratios == pytest.approx([20 / 22.5, 20 / 32, 22.5 / 32], abs=0.01)


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_page_never_scrolls_sideways(opened, viewport):
    tab = opened(viewport)
    tab.locator(".viewer canvas").first.wait_for()
    tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")

    assert tab.evaluate("document.documentElement.scrollWidth") == viewport["width"]
    assert tab.evaluate("document.body.scrollWidth") <= viewport["width"]


def test_dark_theme_and_print(opened):
    tab = opened(color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    assert tab.evaluate(background) == "rgb(21, 23, 26)"

    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    tab.emulate_media(media="print")
    assert tab.evaluate(background) == "rgb(255, 255, 255)"
    assert tab.evaluate("[...document.querySelectorAll('details')].every(one => one.open)")
    assert not tab.locator("nav").is_visible()
    shown = "getComputedStyle(document.querySelector('th button')).display"
    assert tab.evaluate(shown) == "contents"  # a box would not be repeated on the next page


def test_a_phone_shows_the_compared_metric_without_scrolling(opened):
    tab = opened(PHONE)
    cell = tab.locator("#scores tbody td").nth(1)
    box = cell.bounding_box()

    assert re.fullmatch(r"0\.\d{3}\s\[0\.\d{3},\s0\.\d{3}\]", cell.inner_text())
    assert box["x"] + box["width"] <= PHONE["width"] + 16  # the right end of the brackets at most


def test_name_of_a_row_stays_in_sight(opened):
    tab = opened(PHONE)
    table = tab.locator("#cases .scroll")
    name = table.locator("tbody th").first
    left = name.bounding_box()["x"]
    table.evaluate("box => { box.scrollLeft = 200; }")

    assert table.evaluate("box => box.scrollLeft") == 200
    assert name.bounding_box()["x"] == left


def test_script_in_a_name_would_not_run(browser, built, page, tmp_path):
    """Escaping is the first wall; the page's policy is the second."""
    file = tmp_path / "page.html"
    evil = page.replace("<main>", "<main><script>window.evil = 1</script>")
    file.write_text(evil, encoding="utf-8")
    tab = browser.new_page()
    tab.goto(file.as_uri())

    assert tab.evaluate("window.evil === undefined")
    tab.locator(".viewer canvas").first.wait_for()  # our own scripts do run
    tab.close()
