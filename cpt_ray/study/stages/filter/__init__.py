"""The stages of domain filters: classifiers, their scores, and the sources derived by them."""
