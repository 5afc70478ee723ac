"""Whatever a name or a text holds, on a page it is text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracelet.runs.page.markup import Markup, element, joined, json_text, link, visible, web_address

HOSTILE = ["<b>", "</td>", '" onclick="x', "' x='", "&lt;", "<!--", "]]>", "\x00", "\x1b[31m", "\ud800", "\u202egnp"]
TEXTS = st.one_of(st.text(st.characters(), max_size=40), st.sampled_from(HOSTILE))


class Reader(HTMLParser):
    """Elements with their attributes, and all text, as an HTML parser finds them."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.elements, self.text = [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


@given(TEXTS, TEXTS)
def test_text_and_attributes_come_back_as_they_were(text, attribute):
    """An HTML parser finds one element, with the very text and attribute that went in."""
    found = Reader(element("p", text, title=attribute))

    assert [("p", {"title": visible(attribute)})] == found.elements
    assert visible(text) == found.text


def test_only_what_was_made_here_is_markup():
    """Strings that were put together from markup are text again: a slip shows, and does no harm."""
    inner = element("b", "x")

    assert "<p><b>x</b></p>" == element("p", inner)
    assert "<p>&lt;b&gt;x&lt;/b&gt;!</p>" == element("p", f"{inner}!")
    assert not isinstance(inner + "!", Markup)


def test_attributes():
    """None and False are left out, True has no value, "_" is "-"."""
    made = element("input", class_="a b", aria_label="x", hidden=False, checked=True, value=None, data_step=3)

    assert '<input class="a b" aria-label="x" checked data-step="3">' == made


def test_what_cannot_be_seen_is_spelled_out():
    """Control characters, turned directions and halves of characters; the scripts of the world stay as they are."""
    assert r"a\x00\x1b\u202eb\ud800" == visible("a\x00\x1b\u202eb\ud800")
    assert "日本　می‌خواهم 👩‍👩‍👧\n\t" == visible("日本　می‌خواهم 👩‍👩‍👧\r\n\t")


@given(
    st.recursive(
        TEXTS | st.integers() | st.none(), lambda one: st.lists(one) | st.dictionaries(TEXTS, one), max_leaves=8
    )
)
def test_json_stays_inside_its_script(value):
    """Nothing in it ends the element or begins a comment, and it says the same."""
    text = json_text(value)

    assert None is re.search("[<>&]|[^\x00-\x7f]", text)
    assert value == json.loads(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("https://example.org/a?b=c#d", "https://example.org/a?b=c#d"),
        ("http://user:secret@example.org:8080/x", "http://example.org:8080/x"),
        ("javascript:alert(1)", None),
        ("JavaScript:alert(1)", None),
        ("java\nscript:alert(1)", None),
        (" https://example.org", None),
        ("https://example.org/\u202egnp", None),
        ("data:text/html,<script>", None),
        ("file:///etc/passwd", None),
        ("//example.org", None),
        ("https://", None),
        ("http://[", None),
        ("", None),
    ],
)
def test_only_web_addresses_become_links(text, address):
    assert address == web_address(text)
    found = Reader(link(text))
    assert ([] if address is None else [address]) == [told["href"] for _, told in found.elements]
    assert visible(text) == found.text


def test_joined_leaves_nothing_out_but_none():
    assert "a0&lt;<b></b>" == joined("a", None, 0, "<", element("b"))
