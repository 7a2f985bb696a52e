"""Records: the schema of results.json, the cost of each method, and the summary sentences of a study."""
