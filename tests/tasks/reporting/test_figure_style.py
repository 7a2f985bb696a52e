"""The style of figures."""

from tasks.reporting.figure_style import method_styles


def test_twelve_methods_can_be_told_apart_by_colour_and_marker() -> None:
    methods = tuple(f"method {i}" for i in range(12))
    assert len({(style.colour, style.marker) for style in method_styles(methods).values()}) == len(methods)
