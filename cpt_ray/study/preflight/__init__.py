"""What is proven before anything is spent: the bases, the packages that the study needs, the device."""
