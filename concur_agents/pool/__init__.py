"""Many agents at once: `gather`, `map`, `as_completed` and `TaskGroup`."""

from .as_completed import AsCompleted, as_completed
from .batch import Batch
from .gather import gather
from .map import map_items
from .task_group import TaskGroup

__all__ = ["AsCompleted", "Batch", "TaskGroup", "as_completed", "gather", "map_items"]
