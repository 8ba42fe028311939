"""The one public interface: endpoint table, schemas, service, client.

What front doors need of core is named here, so that one that imports nothing below micro (the gateway) can do its work.
"""

from dagnats_core import __version__ as __version__
from dagnats_core import limits as limits
from dagnats_core.errors import ERROR_CLASSES as ERROR_CLASSES
from dagnats_core.errors import Busy as Busy
from dagnats_core.errors import Conflict as Conflict
from dagnats_core.errors import DagNatsError as DagNatsError
from dagnats_core.errors import ErrorClass as ErrorClass
from dagnats_core.errors import Forbidden as Forbidden
from dagnats_core.errors import Invalid as Invalid
from dagnats_core.errors import NotFound as NotFound
from dagnats_core.errors import Problem as Problem
from dagnats_core.errors import TooLarge as TooLarge
from dagnats_core.errors import Unavailable as Unavailable
