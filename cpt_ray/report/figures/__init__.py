"""The page's figures, drawn as SVG from records."""
