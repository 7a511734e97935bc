"""The plots and the one self-contained HTML page."""
