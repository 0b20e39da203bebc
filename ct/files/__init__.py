"""Files to scans and back: volumes, DICOM, slice images, masks."""
