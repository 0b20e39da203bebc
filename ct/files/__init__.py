"""Files of scans and masks, read and written: volumes, DICOM, slice images."""
