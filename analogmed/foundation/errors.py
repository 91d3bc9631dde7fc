"""Errors that a user can act on: each message names the problem, the place and the remedy."""


class AnalogmedError(Exception):
    """Base class of all errors that analogmed raises deliberately."""


class DataError(AnalogmedError):
    """A file or folder of a data set is missing, damaged or inconsistent."""


class SecurityError(DataError):
    """A path or archive entry refers to a location outside its folder."""


class LeakageError(DataError):
    """A patient or scan appears in more than one split."""


class ConfigError(AnalogmedError, ValueError):
    """A setting is unknown, out of range or inconsistent with other settings."""


class MissingSettingError(ConfigError):
    """A setting that has no default is not given."""


class CheckpointError(AnalogmedError):
    """A checkpoint is damaged or does not fit the network."""


class CoverageError(AnalogmedError):
    """A model has no analog layer, or a layer cannot be mapped onto a tile."""


class NonFiniteError(AnalogmedError, ValueError):
    """A value that must be finite is NaN or Inf."""


class ShapeError(AnalogmedError, ValueError):
    """Arrays that belong together have different shapes."""


class PackedSequenceError(ShapeError):
    """A layer on tiles was called with a packed sequence, which has no shape of its own."""
