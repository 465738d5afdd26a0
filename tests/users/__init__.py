"""Several people on one machine, as root has set it up."""
