"""DICOM CT: which files, which series, which acquisition, where each frame lies."""
