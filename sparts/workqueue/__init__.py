"""The queue of a worker pool: bounds, retries that wait their time, and an end that leaves nothing.

It knows no task, and no worker: :mod:`sparts.tasks.queue` puts those around it.
"""

from sparts.workqueue.core import WorkQueue
from sparts.workqueue.deadline import Deadline
from sparts.workqueue.kinds import PriorityWorkQueue, UniqueWorkQueue
from sparts.workqueue.left import Leftovers
from sparts.workqueue.naps import nap, new_nap
from sparts.workqueue.retries import backoff

__all__ = [
    "Deadline",
    "Leftovers",
    "PriorityWorkQueue",
    "UniqueWorkQueue",
    "WorkQueue",
    "backoff",
    "nap",
    "new_nap",
]
