from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from neurochains.explorer.view import PANELS, View

TEXT = st.text(max_size=60)
SHARES = st.floats(0.0001, 1).map(lambda value: round(value, 4))


def test_what_is_as_by_default_is_not_in_the_address():
    assert View().search() == ""
    assert View(panel="kernel").search() == "?panel=kernel"


@given(TEXT, SHARES, st.sampled_from(PANELS), st.lists(st.sampled_from(["a.b[3]", "a[1]<0", "block:layer1.0"])))
def test_an_address_gives_its_view_back(expression, share, panel, off):
    view = View(expression=expression or "x", filters=share, panel=panel, off=tuple(dict.fromkeys(off)))
    assert View.parse(view.search()) == view


@given(TEXT)
def test_no_text_is_too_bad_for_an_address(text):
    assert isinstance(View.parse(f"?{text}"), View)
    assert isinstance(View.parse(text), View)


def test_entries_that_cannot_be_are_left_as_by_default():
    view = View.parse("?filters=2&kernels=nan&unit=%3Cscript%3E&graph=4d&image=../../etc&off=x&chains=-1&panel=")
    assert view == View()


def test_very_long_addresses_are_cut_not_obeyed():
    assert View.parse("?" + "&".join(f"off=a[{n}]" for n in range(900))).off != ()
    assert View.parse("?" + "&".join(f"off=a[{n}]" for n in range(2000))) == View()
    assert len(View.parse(f"?expression={'a' * 9000}").expression) == 4000


def test_sizes_and_switches_are_in_the_address_too():
    view = View(size=1.4, width=0.6, relu="on")
    assert View.parse(view.search()) == view
    assert View.parse("?size=9&width=0&relu=maybe") == View()
