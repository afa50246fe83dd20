"""The report is one well-formed page, says what the fit says, and escapes everything."""

import base64
from html.parser import HTMLParser

import pytest

import jensen as jn
from jensen._report.html import render
from jensen._report.page import Html, table, tag

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Collects text, tags and attributes; fails on a tag that is not closed in order."""

    def __init__(self, source):
        super().__init__()
        self.open, self.text, self.tags, self.attributes = [], [], [], []
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, name, attributes):
        self.tags.append(name)
        self.attributes += attributes
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)


@pytest.fixture(scope="module")
def page(schools):
    return Page(render(schools))


def test_it_says_what_the_fit_says(page, schools):
    said = "\n".join(page.text)
    report, bounds = schools.check(), schools.evidence()
    wanted = [*report.reasons, report.remedy, schools.status, f"{bounds.log_evidence:,.3f}"]
    wanted += ["theta[7]", "HalfCauchy", "school[8]", "full rank", "kept", *(check.name for check in report.checks)]
    for text in wanted:
        assert text in said
    assert "Verdict: usable with importance weights" in said


def test_it_is_self_contained(page):
    links = [value for key, value in page.attributes if key in ("src", "href")]
    assert len(links) == 4
    for link in links:
        prefix, _, data = link.partition(",")
        assert prefix == "data:image/png;base64"
        assert base64.b64decode(data)[:8] == b"\x89PNG\r\n\x1a\n"
    assert not {"script", "link", "iframe"} & set(page.tags)


def test_names_are_escaped(hostile, tmp_path):
    hostile.report(tmp_path / "r.html")
    source = (tmp_path / "r.html").read_text()
    assert "<script" not in source
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in source
    assert "<script>alert(1)</script>" in "\n".join(Page(source).text)


def test_a_fit_from_a_file_has_the_same_report(schools, tmp_path):
    schools.save(tmp_path / "f.jn")
    jn.load(tmp_path / "f.jn").report(tmp_path / "r.html")
    said = "\n".join(Page((tmp_path / "r.html").read_text()).text)
    assert schools.check().reasons[0] in said
    assert "positive" in said.lower()


def test_builders_escape():
    assert tag("p", "<b>", Html("<i></i>"), class_='a"b') == '<p class="a&quot;b">&lt;b&gt;<i></i></p>'
    assert "&amp;" in table(["a & b"], [["<"]], {0})
