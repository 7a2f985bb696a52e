"""What the home keeps for good."""

from tasks.runtime.home import home


def test_the_patient_key_is_made_once_for_its_owner_s_eyes_and_again_if_a_kill_left_it_empty() -> None:
    path = home().root / "patient.key"
    path.touch(0o600)
    key = home().patient_key
    assert len(key) == 32
    assert home().patient_key == key
    assert path.stat().st_mode & 0o777 == 0o600
