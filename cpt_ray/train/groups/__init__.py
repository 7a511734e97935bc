"""Groups of workers that train a study's runs side by side: which run is next, who trains it, what the driver sees."""
