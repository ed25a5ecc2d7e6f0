from __future__ import annotations

from neurochains.explorer.box import boxed, chosen, switched_off
from neurochains.explorer.graph import draw
from neurochains.explorer.view import View

from .test_panels import text


def test_a_box_holds_the_filters_under_it_and_no_input(desk):
    drawn = draw(desk, View())
    inputs = desk.bundle.document.input_shape[0]
    data = {"points": [{"customdata": n} for n in (0, inputs, inputs + 2, inputs, -1, 10**6, "x", [3], None)]}
    assert chosen(drawn, data) == (drawn.units[inputs], drawn.units[inputs + 2])
    for nothing in (None, {}, {"points": []}, {"points": ["x"]}):
        assert chosen(drawn, nothing) == ()


def test_filters_in_a_box_are_weighed_and_switched_off_together(desk):
    drawn, view = draw(desk, View()), View(off=("a[1]",))
    units = drawn.units[3:6]
    assert "3 filters in the box carry" in text(boxed(desk, view, units))
    assert boxed(desk, view, ()) is None
    after = switched_off(view, units)
    assert after.off == ("a[1]", *map(str, units))
    assert after.panel == "ablation"
    assert switched_off(after, units).off == after.off
