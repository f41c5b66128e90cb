from .write import make_report as make_report
