"""Reports for a terminal: aligned tables and lines, no color, no box drawing."""
