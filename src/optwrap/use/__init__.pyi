from .export.write import chosen_formats as chosen_formats
from .export.write import write_exports as write_exports
from .predictions import predictions_file as predictions_file
from .predictions import write_predictions as write_predictions
from .trained import check_choice as check_choice
from .trained import trained as trained
