from .files import load as load
from .model_state import load_model as load_model
from .saved import load_trusted_config as load_trusted_config
