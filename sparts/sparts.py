"""The old name of what classes declare: ``option``, ``counter`` and ``samples``."""

from sparts.counters import SampleType, counter, samples
from sparts.options import option

__all__ = ["SampleType", "counter", "option", "samples"]
