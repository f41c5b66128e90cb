"""Models of other packages by name, each an extra: timm, transformers."""

from optwrap.models.timm_models import timm_model
from optwrap.models.transformers_models import transformers_model

__all__ = ["timm_model", "transformers_model"]
