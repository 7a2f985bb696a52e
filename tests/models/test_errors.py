from models.errors import unknown_name


def test_an_unknown_name_is_answered_with_the_nearest_known_one():
    assert str(unknown_name("method", "unifrom", ["svd", "uniform"])) == (
        "unknown method 'unifrom'; did you mean 'uniform'?"
    )


def test_without_known_names_nothing_is_suggested():
    assert str(unknown_name("method", "x", [])) == "unknown method 'x'"
