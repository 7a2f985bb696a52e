"""Image studies: arms on chest radiographs, from their inputs to training, comparison, report and model registry."""
