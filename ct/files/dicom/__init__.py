"""DICOM CT: choice of files, series and acquisition, and the place of each frame."""
