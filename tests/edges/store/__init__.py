"""Tests of roots on object stores."""
