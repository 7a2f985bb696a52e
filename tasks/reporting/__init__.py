"""Reports for people: HTML pages from templates, the figures of studies as SVG, and their log in MLflow."""
