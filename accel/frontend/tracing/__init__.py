"""`compile`: functions recorded once per signature, with what they depend on."""
