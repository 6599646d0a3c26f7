"""`report.html`: everything a run found, in one file that needs no network.

`reading` takes what a run's folder holds, `figures` makes plots of it, `page` fills the template.
plotly.js draws and `report.js` does what it cannot: choose, filter, show a sub-network.
"""

from nasbench.experiment.html_report.page import summarize, write_html_report

__all__ = ["summarize", "write_html_report"]
