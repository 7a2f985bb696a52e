import pytest

from tasks.theory.leading_orders import CLOSE, kept_over_leading, ranges_of_leading_orders, small_over_leading


def test_leading_orders_are_close_up_to_the_ends_of_their_ranges() -> None:
    for ridge in (0.01, 1.0, 30.0):
        fall = 1 - (ridge / (ridge + 1)) ** 2  # in units of <z,beta>^2 / ||z||^2; the large ridge's order is 2 / ridge
        assert small_over_leading(ridge) == pytest.approx(fall)
        assert kept_over_leading(ridge) == pytest.approx(fall / (2 / ridge))
    small, large = ranges_of_leading_orders()
    assert small_over_leading(small) == pytest.approx(1 - CLOSE, abs=1e-3)
    assert kept_over_leading(large) == pytest.approx(1 - CLOSE, abs=1e-3)
