"""The executor of the node: rclpy's, without its race with entities that go."""

from typing import Any

from rclpy.executors import MultiThreadedExecutor, TimeoutException

from clip2uda_ros.compat import InvalidHandle


class NodeExecutor(MultiThreadedExecutor):
    """Callbacks of a lifecycle node destroy subscriptions and publishers while the executor waits in another thread.

    rclpy forgives a subscription that goes just before it is waited for, but not its event handlers (incompatible QoS
    and the like): `spin` then fails with InvalidHandle, as if a callback had failed. Here such a wait ends as one in
    which nothing became ready, and the next one does without the entity. What callbacks raise still ends `spin`.
    """

    def wait_for_ready_callbacks(self, *args: Any, **kwargs: Any) -> Any:
        """The next callback, entity and node that are ready. Raises what rclpy's own does, but for InvalidHandle."""
        try:
            return super().wait_for_ready_callbacks(*args, **kwargs)
        except InvalidHandle:
            raise TimeoutException from None

    def finish(self) -> None:
        """Lets the callbacks that run end, then shuts down. rclpy's `shutdown` destroys what they use, then waits for
        them, and prints what they raise; it has no public way to wait for them alone."""
        self._executor.shutdown()
        self.shutdown()
