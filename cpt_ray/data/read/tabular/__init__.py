"""Tables of stage `read`: Parquet, Arrow and CSV, their columns, and what their rows look like."""
