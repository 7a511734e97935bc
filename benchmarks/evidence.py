"""How an acceptance box refuses."""


def check(true: bool, otherwise: str) -> None:
    """Refuse with a reason; asserts vanish under -O.

    Raises:
        AssertionError: If it is not true.
    """
    if not true:
        raise AssertionError(otherwise)
