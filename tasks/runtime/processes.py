"""Processes: the name of this one, whether a named one still runs, and the processors available.

A run carries its process's name, so that a later command can correct its state after a kill.
"""

import os
import re
import socket


def process_name() -> str:
    """Return the name of this process: 'host:process number'."""
    return f"{socket.gethostname()}:{os.getpid()}"


def has_exited(name: str) -> bool:
    """Tell whether the process of this name (see `process_name`) ran on this machine and has ended.

    False for processes of other machines and for text that is no process name: nothing is known about them.
    """
    host, _, number = name.rpartition(":")
    if host != socket.gethostname() or not re.fullmatch("[1-9][0-9]{0,8}", number):  # as the kernel counts
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # another user's process has the number now, or the process changed its user
    return False


def processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
