"""Objects that hold the state of one robot and must not be copied."""

from typing import NoReturn


class Uncopied:
    """Refuses `copy.copy`, `copy.deepcopy` and `pickle`: the copy would share buffers with the original."""

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} holds the state of one robot, so it is not copied or pickled; make another one "
            "from the bundle, with Policy.load(folder)"
        )
