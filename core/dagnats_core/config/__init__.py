"""Configuration of every program: defaults < dagnats.yaml < environment < flags.

fields   PURE the one table: name, type, default, help; from it come key, environment variable and flag
file     which dagnats.yaml, and what stands in which of its lines
load     the four layers put together, and where each value came from
"""

from dagnats_core.config.fields import FIELDS, Address, Config, Field
from dagnats_core.config.load import ShownValue, load_config, show_config

__all__ = ["FIELDS", "Address", "Config", "Field", "ShownValue", "load_config", "show_config"]
