"""Image decoding: PNG, JPEG and DICOM files to square grey images, with a sandbox for untrusted files."""
