"""Steps of a flow: everything with a side effect (disk, network, MLflow, Prefect, progress)."""
