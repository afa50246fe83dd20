"""A model that is asked for its log joint alone: draws are on the support as they come."""

from jensen._core import AbstractModel


class JointOnly(AbstractModel):
    """No map from R^D; `log_joint` is what a subclass adds."""

    @property
    def bijection(self):
        return None

    def constrain(self, point):
        return {"u": point}
