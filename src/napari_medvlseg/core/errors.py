"""The errors that a user can mend.

Each message says, in one sentence, what was expected, what came and what to do. The
command line turns them into exit code 2, the plugin into a notification; every other
exception is a bug and keeps its traceback.
"""


class MedVLSegError(Exception):
    """Base of the errors that a user can mend."""


class UnsupportedFormatError(MedVLSegError):
    """A file is absent, damaged or of a kind that is not read."""


class ImageError(MedVLSegError):
    """The voxels cannot be segmented: their shape, dtype or values."""


class GeometryError(MedVLSegError):
    """The affine or the spacing cannot be used."""


class PromptError(MedVLSegError):
    """The text prompt is empty, too long or not text."""


class CheckpointError(MedVLSegError):
    """A model bundle is absent, damaged or foreign."""


class DeviceError(MedVLSegError):
    """The device asked for is not there."""


class OutputError(MedVLSegError):
    """A result cannot be written: it exists, or the disk refuses."""


class DatasetError(MedVLSegError):
    """A folder of labelled images is not laid out as expected."""


class DownloadError(MedVLSegError):
    """A file could not be fetched, or is not what was asked for."""
