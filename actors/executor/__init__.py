"""`ActorPoolExecutor`: `concurrent.futures.Executor` on actors."""

from .errors import PoolBroken as PoolBroken
from .errors import WorkerDied as WorkerDied
from .executor import ActorPoolExecutor as ActorPoolExecutor
