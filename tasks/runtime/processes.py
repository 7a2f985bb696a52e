"""Processors that may be used, and which process owns a run, so that its record can be put right once it is gone."""

import os
import socket


def this_process() -> str:
    """This process by name: host and process number."""
    return f"{socket.gethostname()}:{os.getpid()}"


def is_gone(process: str) -> bool:
    """Whether `process` (as `this_process` names it) ran on this machine and no longer does.

    False for another machine's processes and for names that are none: nothing is known about them.
    """
    host, _, number = process.rpartition(":")
    if host != socket.gethostname() or not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # somebody else's process has the number now, or ours changed its user
    return False


def processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
