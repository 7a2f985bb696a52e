"""Image sources: a folder, the ChestX-ray14 archives, MedMNIST files and tar archives, each with its label table."""
