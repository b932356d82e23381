"""The page: what it holds, what it escapes, what it says is missing."""

import re
from html.parser import HTMLParser

import pytest
import SimpleITK

from refsam3d_nnunet.report import page as page_module
from refsam3d_nnunet.report import tables
from refsam3d_nnunet.report.study import read_study
from tests.report.conftest import CASES, METHODS, SCRIPT
from tests.report.test_study import change

LOADING = ("src", "href", "xlink:href", "srcset", "data", "action", "poster", "background")
VOID = {"meta", "link", "img", "br", "input", "hr"}


class Parsed(HTMLParser):
    """Elements of a page, with their attributes, and the text of table cells."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.cells = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("th", "td"):
            self.cells.append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("th", "td"):
            self.cells[-1] += data


def test_page_is_well_formed(page):
    parsed = Parsed(page)

    assert parsed.open == []
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [a["href"][1:] for _, a in parsed.elements if a.get("href", "").startswith("#")]
    assert set(targets) <= set(ids)


def test_all_cases_and_classes_are_in_the_tables(page):
    cells = Parsed(page).cells

    assert set(CASES) <= set(cells)
    assert {SCRIPT, r"tail $\bad"} <= set(cells)


def test_nothing_is_loaded_from_elsewhere(page):
    for tag, attributes in Parsed(page).elements:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in set(LOADING) & set(attributes):
            assert attributes[name].startswith(("#", "data:image/png;base64,")), (tag, name)
    assert re.findall(r"url\((?!#)|@import|https?://", page) == []
    assert "default-src 'none'" in page


def test_names_are_escaped(page):
    scripts = [attributes for tag, attributes in Parsed(page).elements if tag == "script"]

    assert len([a for a in scripts if "type" not in a]) == 2  # the page's own
    assert SCRIPT not in page
    assert "alert(1)" in page
    assert not re.search("<(i|b|u)>", page)


def test_page_is_accessible(page):
    elements = Parsed(page).elements
    headings = [int(tag[1]) for tag, _ in elements if re.fullmatch("h[1-6]", tag)]

    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(headings, headings[1:], strict=False))
    assert all(a.get("alt") for tag, a in elements if tag == "img")
    assert all(a.get("aria-label") for tag, a in elements if tag == "svg")
    count = [tag for tag, _ in elements]
    assert count.count("caption") == count.count("table") > 5
    assert ("html", {"lang": "en"}) in elements


def test_dice_stands_beside_that_of_nnunet(built, page):
    cells = Parsed(page).cells
    means = built.comparison()["means"]

    for method in METHODS:
        assert cells.count(f"{means[method][SCRIPT]['mean']:.8f}") == 2
    assert "equals that of nnUNetv2_accumulate_crossval_results in every case" in page


def test_dice_that_differs_is_marked_where_it_stands(toy):
    change(toy.summary(METHODS[1]), lambda s: s["mean"]["2"].update(Dice=0.25))
    text = toy.report()
    problem = "nnUNetTrainer differs from nnU-Net&#39;s Dice by up to 0.24."

    assert re.findall(r'<td class="number alarm"[^>]*>([^<]*)</td>', text) == ["2.4e−01 differs"]
    assert f'<p class="warning">{problem}</p>' in text
    assert "Dice of RefSAM3DTrainer equals that of" in text  # of the other method it is still true


def test_scores_of_a_class_stand_together(built):
    study = read_study(built.folder)
    rows = tables.scores(study).rows
    grids = [m.evaluation.values("dice") for m in study.methods]
    labels = ["RefSAM3DTrainer", "nnUNetTrainer"]

    assert [row[1].text for row in rows] == labels * 4
    assert [row[0].text for row in rows[::2]] == [*grids[0].columns, tables.ALL, tables.BY_CASE]
    for row, grid in zip(rows[2:4], grids, strict=True):
        assert row[2].key == pytest.approx(grid[rows[2][0].text].mean(), abs=1e-9)
        assert row[-1].text == "11"  # in one case the tail is neither there nor predicted


def test_warnings_and_what_is_missing_are_on_the_page(toy, monkeypatch):
    """The raw data set has moved, the models are gone, and a number has changed."""
    monkeypatch.delenv("nnUNet_raw")
    toy.raw.rename(toy.root / "moved")
    change(toy.summary(METHODS[0]), lambda s: s["mean"]["1"].update(Dice=0.5))
    toy.model(METHODS[1]).rename(toy.root / "gone")
    text = toy.report()

    assert "Small sample: 12 cases" in text
    assert f"{METHODS[0]} differs from nnU-Net&#39;s Dice by up to" in text
    assert f"{METHODS[1]}: its model folder" in text
    assert "its image is not in nnUNet_raw" in text
    assert 'id="shown"' not in text
    assert 'id="agreement"' in text
    Parsed(text)


def test_single_method_without_anything_else(toy):
    change(toy.folder / "crossval.json", lambda record: record["methods"].pop())
    (toy.folder / "comparison" / "comparison.json").unlink()
    text = toy.report()

    assert "RefSAM3DTrainer: mean Dice 0.689 (95% interval 0." in text
    assert "Differences are left out" in text
    assert "Costs are left out" in text
    assert 'id="differences"' not in text


def test_case_that_cannot_be_read_leaves_the_rest(toy):
    for file in (toy.raw / "imagesTr").iterdir():
        file.write_bytes(b"no image")
    text = toy.report()

    assert text.count("The picture of") == text.count("The slice viewer of") == 3
    assert 'class="viewer"' not in text
    assert 'id="cases"' in text


def test_two_dimensional_cases_have_no_viewer(toy):
    files = [*toy.root.rglob("*.nii.gz")]
    for file in files:
        image = SimpleITK.ReadImage(str(file))
        SimpleITK.WriteImage(image[:, :, 6], str(file))
    text = toy.report()

    assert "has 2 axes, the viewer shows 3" in text


def test_too_many_dots_for_a_page(toy, monkeypatch):
    monkeypatch.setattr(page_module, "MAX_DOTS", 100)
    text = toy.report()

    assert "Charts of NSD, HD95, ASSD, Volume error are left out: 240 dots" in text
    assert text.count("Dice of &lt;script&gt;") == 1


def test_an_old_report_survives_a_failure(toy, monkeypatch):
    out = toy.folder / "report.html"
    out.write_text("old")

    def fail(*_, **__):
        raise RuntimeError("in the middle")

    monkeypatch.setattr("pathlib.Path.write_text", fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        toy.report()
    assert out.read_text(encoding="utf-8") == "old"
    assert not list(toy.folder.glob(".*tmp"))
