"""Takes the messages of the sensors in a thread of their own.

rclpy's executors gather every entity of the node anew and wait for all of them, up to three times a message. For LiDAR,
cameras and TF at their rates that costs several times what taking the messages does, in the interpreter that the model
needs too. Here the wait is for a few subscriptions alone, as in `rclpy.wait_for_message`.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.context import Context
from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.subscription import Subscription

POLL_PERIOD_S = 0.02
"""How often `poll` is called while it says that something waits."""
FOR_EVER_NS = -1


class ReceptionGroup(CallbackGroup):
    """The group of the subscriptions, which the node's executor leaves alone.

    They must not have handlers of QoS events: an executor that waits for those is woken by every message all the same.
    """

    def can_execute(self, entity: Any) -> bool:
        return False

    def beginning_execution(self, entity: Any) -> bool:
        return False

    def ending_execution(self, entity: Any) -> None:
        raise AssertionError("nothing of this group is executed")


class Reception:
    """Calls back for each message of `subscriptions`, which are of a ReceptionGroup, until `close`; one at a time.

    poll: called after each wait, in the same thread; returns whether it wants to be called again soon, message or not.
    on_error: gets what callbacks and `poll` raise; the thread goes on.
    """

    def __init__(
        self,
        context: Context,
        subscriptions: Sequence[Subscription],
        poll: Callable[[], bool],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._context = context
        self._subscriptions = subscriptions
        self._poll = poll
        self._on_error = on_error
        self._closing = False
        self._wake = GuardCondition(None, None, context)
        self._thread = threading.Thread(target=self._run, name="reception", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Lets a callback that runs end; afterwards none is called, and the subscriptions may be destroyed."""
        self._closing = True
        self._wake.trigger()
        self._thread.join()
        self._wake.destroy()

    def _run(self) -> None:
        with ExitStack() as in_use:  # what is destroyed in spite of `close` is kept until the thread has ended
            assert self._context.handle is not None
            for handle in (self._context.handle, self._wake.handle, *(each.handle for each in self._subscriptions)):
                in_use.enter_context(handle)
            count = len(self._subscriptions)
            wait_set = rclpy_implementation.WaitSet(count, 1, 0, 0, 0, 0, self._context.handle)
            while not self._closing and self._context.ok():
                waits = self._attempt(self._poll)
                wait_set.clear_entities()
                wait_set.add_guard_condition(self._wake.handle)
                for subscription in self._subscriptions:
                    wait_set.add_subscription(subscription.handle)
                wait_set.wait(round(POLL_PERIOD_S * 1e9) if waits else FOR_EVER_NS)
                ready = wait_set.get_ready_entities("subscription")
                for subscription in self._subscriptions:
                    if subscription.handle.pointer in ready and not self._closing:
                        self._attempt(self._take, subscription)

    def _take(self, subscription: Subscription) -> None:
        taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
        if taken is not None:
            callback: Any = subscription.callback  # message_filters', which takes the message alone
            callback(taken[0])

    def _attempt(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except Exception as error:
            self._on_error(error)
            return None
