"""How far a bundle is from the model that it was cut from."""
