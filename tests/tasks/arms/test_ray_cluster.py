"""What is checked of a Ray cluster before arms train on it, each with one line that says what to do."""

import socket
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

pytest.importorskip("prefect_ray", reason="Ray is not installed: pip install 'medmtl[ray]'")

from data_prep.errors import DataError
from tasks.arms import ray_cluster
from tasks.arms.ray_cluster import PACKAGES, Machine, check_answer, check_machine, check_size
from tasks.arms.runner import RunnerSettings, task_runner
from tasks.runtime.lease import lease_name

SAME = {package: version(package) for package in PACKAGES}


def the_error_of(machine: Machine) -> str:
    with pytest.raises(DataError) as caught:
        check_machine("127.0.0.3", machine)
    return one_line(caught.value)


def one_line(error: DataError) -> str:
    line = str(error)
    assert "\n" not in line
    return line


def nobody() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_where_nobody_answers_the_address_and_the_remedy_are_named(scheme: str) -> None:
    address = f"{scheme}{nobody()}"
    with pytest.raises(DataError) as caught, task_runner(RunnerSettings(kind="ray", address=address), "cpu"):
        pass
    assert f"no Ray cluster answers at {address} within 5 s" in one_line(caught.value)
    assert "docs/ray.md" in str(caught.value)


@pytest.mark.parametrize("address", ["auto", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", ":", "ray://", "6379"])
def test_an_address_without_a_port_is_refused(address: str) -> None:
    with pytest.raises(DataError) as caught, task_runner(RunnerSettings(kind="ray", address=address), "cpu"):
        pass
    assert f"runner.address is {address!r}: give it as HOST:PORT" in one_line(caught.value)


def test_a_port_that_does_not_exist_is_one_at_which_nobody_answers() -> None:
    settings = RunnerSettings(kind="ray", address="127.0.0.1:70000")
    with pytest.raises(DataError, match=r"no Ray cluster answers at 127\.0\.0\.1:70000"), task_runner(settings, "cpu"):
        pass


def test_a_cluster_that_wants_its_token_says_how_to_give_it(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "Traceback ...\nray.exceptions.AuthenticationError: RPC error: InvalidAuthToken"
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", said))
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(DataError) as caught:
        check_answer(f"127.0.0.1:{server.getsockname()[1]}")
    assert "set RAY_AUTH_MODE=token, and copy the token to ~/.ray/auth_token" in one_line(caught.value)


def test_what_listens_but_is_no_cluster_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "STATUS_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(DataError) as caught:
        check_answer(f"127.0.0.1:{silent.getsockname()[1]}")
    assert "does not answer as the head of a Ray cluster: name its port in runner.address" in one_line(caught.value)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_machine_with_another_version_of_a_package_is_named_with_both(package: str) -> None:
    line = the_error_of(Machine(socket.gethostname(), SAME | {package: "0.0.1"}, True))
    assert f"machine 127.0.0.3 of the Ray cluster has {package} 0.0.1, and this one {SAME[package]}" in line
    assert "requirements.lock" in line


def test_a_machine_that_does_not_share_the_home_is_named() -> None:
    line = the_error_of(Machine(socket.gethostname(), SAME, False))
    assert "does not see the files or the locks" in line
    assert "MEDMTL_HOME" in line


def test_a_second_machine_needs_servers_of_mlflow_and_prefect_but_this_one_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_cluster, "is_private", lambda url: True)
    check_machine("127.0.0.3", Machine(socket.gethostname(), SAME, True))
    other = Machine("elsewhere", SAME, True)
    assert "MLFLOW_TRACKING_URI" in the_error_of(other)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert "PREFECT_API_URL" in the_error_of(other)
    monkeypatch.setattr(ray_cluster, "is_private", lambda url: False)
    check_machine("127.0.0.3", other)


def test_an_arm_must_fit_into_one_machine_with_its_processors_and_its_gpu() -> None:
    check_size([{"CPU": 1}, {"CPU": 4, "GPU": 1}], processors=4, gpus=1)
    with pytest.raises(
        DataError, match=r"8 processors.*the largest has 4 processors and 0 GPUs: lower runner\.threads"
    ) as caught:
        check_size([{"CPU": 4}, {"CPU": 4}], processors=8, gpus=0)
    one_line(caught.value)
    with pytest.raises(DataError, match=r"and 1 GPUs.*the largest has 1 processors and 1 GPUs"):
        check_size([{"CPU": 8}, {"CPU": 1, "GPU": 1}], processors=8, gpus=1)
    with pytest.raises(DataError, match="the largest has 0 processors and 0 GPUs"):
        check_size([{}], processors=1, gpus=0)


def test_a_lease_held_here_is_seen_in_the_same_home_and_in_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = lease_name()
    assert Machine(*ray_cluster.look(lease)) == Machine(socket.gethostname(), SAME, True)
    monkeypatch.setenv("MEDMTL_HOME", str(tmp_path))
    assert not Machine(*ray_cluster.look(lease)).shares_home
