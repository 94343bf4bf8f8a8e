"""The node's services as a test calls them."""

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from peer import Inbox, Peer
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters


def set_parameter(peer: Peer, node: str, name: str, value: float | bool | str) -> str:
    """Sets a parameter; returns why it was refused, or nothing."""
    kinds = {
        float: (ParameterType.PARAMETER_DOUBLE, "double_value"),
        bool: (ParameterType.PARAMETER_BOOL, "bool_value"),
        str: (ParameterType.PARAMETER_STRING, "string_value"),
    }
    kind, attribute = kinds[type(value)]
    parameter = Parameter(name=name, value=ParameterValue(type=kind, **{attribute: value}))
    request = SetParameters.Request(parameters=[parameter])
    result = peer.call(SetParameters, f"{node}/set_parameters", request).results[0]
    return "" if result.successful else result.reason


def transition(peer: Peer, node: str, number: int) -> bool:
    """Asks for a lifecycle transition; returns whether it was made."""
    request = ChangeState.Request(transition=Transition(id=number))
    return bool(peer.call(ChangeState, f"{node}/change_state", request).success)


def state(peer: Peer, node: str) -> str:
    return str(peer.call(GetState, f"{node}/get_state", GetState.Request()).current_state.label)


def pairs(message: DiagnosticArray) -> dict[str, str]:
    return {pair.key: pair.value for pair in message.status[0].values}


def wait_for_value(diagnostics: Inbox[DiagnosticArray], key: str, value: int) -> None:
    diagnostics.wait_for(lambda message: pairs(message).get(key) == str(value), f"{key} = {value}")


def report(diagnostics: Inbox[DiagnosticArray]) -> tuple[DiagnosticStatus, dict[str, str]]:
    """The first diagnostics that begin after now, so that they know all that has been answered."""
    message = diagnostics.wait_for_count(len(diagnostics.messages) + 2)[-1]
    return message.status[0], pairs(message)


def assert_everything_is_accounted_for(diagnostics: Inbox[DiagnosticArray]) -> None:
    """In every message that ever came, not in the last one alone."""
    for message in diagnostics.messages:
        values = pairs(message)
        total = {name: int(values[f"sets.{name}"]) for name in ("in", "complete", "partial", "dropped", "pending")}
        assert total["in"] == total["complete"] + total["partial"] + total["dropped"] + total["pending"], values
        assert total["dropped"] == sum(int(v) for k, v in values.items() if k.startswith("sets.dropped.")), values
        assert values["exceptions"] == "0", values
