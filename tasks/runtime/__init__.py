"""The process and the machine: settings base, home folder, atomic files, locks, signals, progress, Prefect's server."""
