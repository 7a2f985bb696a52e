"""Arms: trained once, checkpointed, resumed and recorded in MLflow, several at a time."""
