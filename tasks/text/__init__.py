"""Multi-task learning on texts (GLUE, sentiment): plan, train, compare and report studies of covariance alignment."""
