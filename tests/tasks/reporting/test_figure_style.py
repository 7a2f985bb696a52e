"""The style of figures."""

from tasks.reporting.figure_style import method_styles, study_styles, wrap_name
from tests.tasks.fake_study import CONTROLS, big_study


def test_twelve_methods_can_be_told_apart_by_colour_and_marker() -> None:
    methods = tuple(f"method {i}" for i in range(12))
    assert len({(style.colour, style.marker) for style in method_styles(methods).values()}) == len(methods)


def test_a_control_has_the_colour_and_marker_of_its_method_but_is_hollow() -> None:
    styles = study_styles(big_study())
    assert list(styles) == list(big_study().methods)
    for method, control in CONTROLS.items():
        assert (styles[control].colour, styles[control].marker) == (styles[method].colour, styles[method].marker)
        assert styles[control].marks["markerfacecolor"] == "none"
        assert styles[method].marks["markerfacecolor"] == styles[method].colour


def test_a_long_name_is_broken_after_brackets_and_spaces_only() -> None:
    assert wrap_name("svd", 25) == "svd"
    assert wrap_name("permuted_weights(trust(features=finished))", 25) == "permuted_weights(trust(\nfeatures=finished))"
    assert wrap_name("uniform, other seeds", 12) == "uniform, \nother seeds"
