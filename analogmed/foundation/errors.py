"""Errors that a user can act on: each says what, where, what was expected and what to do."""


class AnalogmedError(Exception):
    """Base of every error that analogmed raises on purpose."""


class DataError(AnalogmedError):
    """A file or folder of a data set is missing, damaged or contradicts itself."""


class SecurityError(DataError):
    """A path or archive tries to reach outside its folder."""


class LeakageError(DataError):
    """One patient, or one scan, stands in more than one split."""


class ConfigError(AnalogmedError, ValueError):
    """A setting is unknown, out of its range, or does not fit the others."""


class CheckpointError(AnalogmedError):
    """A checkpoint is damaged, or does not fit the network it is loaded into."""


class CoverageError(AnalogmedError):
    """A model has no analog layer, or a layer cannot be put on a tile."""


class NonFiniteError(AnalogmedError, ValueError):
    """NaN or Inf where a finite number is needed."""


class ShapeError(AnalogmedError, ValueError):
    """Arrays that belong together have different shapes."""
