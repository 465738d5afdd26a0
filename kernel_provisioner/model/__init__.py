"""Values that everything else speaks of: accelerators, requests, manifests, locks. No I/O."""
